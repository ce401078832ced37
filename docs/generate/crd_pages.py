"""The pages of the three kinds of objects, from the CRDs."""

import json
from pathlib import Path
from typing import Any

import yaml
from markdown_cells import cell

from flexinfer.api.group_reasons import GROUP_FACTS
from flexinfer.api.groupversion import API_VERSION
from flexinfer.api.lease_reasons import LEASE_FACTS

ROOT = Path(__file__).resolve().parents[2]


def model_page() -> str:
    """Return the page of the Model's fields, from the CRD."""
    return f"# Model ({API_VERSION})\n\n`kubectl explain model.spec` prints the same.\n\n{_table('models')}"


def shared_group_page() -> str:
    """Return the page of the SharedGroup: its fields, from the CRD, and the reasons of its conditions."""
    rows = "\n".join(
        f"| `{reason}` | {facts.condition} | {facts.meaning} | {facts.remedy} |"
        for reason, facts in sorted(GROUP_FACTS.items())
    )
    return (
        f"# SharedGroup ({API_VERSION})\n\nThe one object in which the devices of a shared group are given out: "
        "[Share one GPU between models](../how-to/share-a-gpu.md). `kubectl explain sharedgroup` prints the same.\n\n"
        f"{_table('sharedgroups')}\n"
        "## Conditions\n\nThe arbiter writes them, and an Event at each change.\n\n"
        f"| Reason | Condition | Meaning | Remedy |\n|---|---|---|---|\n{rows}\n"
    )


def lease_page() -> str:
    """Return the page of the GPULease: its fields, from the CRD, and the reasons of its condition."""
    rows = "\n".join(
        f"| `{reason}` | {'yes' if facts.final else ''} | {facts.meaning} | {facts.remedy} |"
        for reason, facts in sorted(LEASE_FACTS.items())
    )
    return (
        f"# GPULease ({API_VERSION})\n\nA reservation of GPU memory in a shared group, for something that FlexInfer does not run: "
        "[Share one GPU between models](../how-to/share-a-gpu.md#a-game-in-the-evening). `flexinfer lease` takes, lists and gives back leases; "
        "`kubectl explain gpulease` prints the same as this page.\n\n"
        f"{_table('gpuleases')}\n"
        "## Condition Granted\n\nThe arbiter writes it, and an Event at each change of its reason. A final reason never changes any more.\n\n"
        f"| Reason | Final | Meaning | Remedy |\n|---|---|---|---|\n{rows}\n"
    )


def _table(plural: str) -> str:
    """Return the table of the fields of a CRD."""
    crd = yaml.safe_load((ROOT / "crds" / f"{plural}.yaml").read_text())
    schema = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    rows = "\n".join(_fields(schema, ""))
    return f"| Field | Type | Default | Meaning |\n|---|---|---|---|\n{rows}\n"


def default_code(value: object) -> str:
    """Return a default as code, as YAML has it: true, {}, 5m."""
    return f"`{value}`" if isinstance(value, str) else f"`{json.dumps(value)}`"


def _fields(schema: dict[str, Any], path: str) -> list[str]:
    rows = []
    for name, field in schema.get("properties", {}).items():
        if path == "" and name not in ("spec", "status"):
            continue
        here = f"{path}.{name}" if path else name
        kind = field.get("type") or ("integer or string" if field.get("x-kubernetes-int-or-string") else "")
        choices = field.get("enum")
        words = cell(str(field.get("description", "")))
        allowed = f" One of {', '.join(f'`{c}`' if c else 'empty' for c in choices)}." if choices else ""
        default = default_code(field["default"]) if "default" in field else ""
        if path:
            rows.append(f"| `{here}` | {kind} | {default} | {words}{allowed} |")
        rows += _fields(field, here)
        rows += _fields(field.get("items", {}), f"{here}[]")
    return rows
