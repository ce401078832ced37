"""The reference pages that are made from code: reasons, subjects, settings, Model fields.

`python docs/generate.py` writes them; a contract test fails while one is stale.
"""

import inspect
import re
import sys
from pathlib import Path
from typing import Any

import msgspec
import yaml

from flexinfer.api import conditions, reasons
from flexinfer.api.groupversion import API_VERSION
from flexinfer.api.services import CHANGED_RECEIVERS, OWNERS
from flexinfer.credentials.secrets import USERS
from flexinfer.events import events, subjects
from flexinfer.local.bus import permissions
from flexinfer.runtime import settings

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "docs" / "reference"
MADE = "<!-- made by docs/generate.py; do not edit -->\n\n"


def pages() -> dict[Path, str]:
    """Return every generated page by its path."""
    return {
        FOLDER / "conditions.md": MADE + conditions_page(),
        FOLDER / "subjects.md": MADE + subjects_page(),
        FOLDER / "settings.md": MADE + settings_page(),
        FOLDER / "model.md": MADE + model_page(),
        FOLDER / "rights.md": MADE + rights_page(),
    }


def conditions_page() -> str:
    """Return the page of conditions and reasons."""
    owners = "\n".join(f"| `{kind}` | {OWNERS[kind]} |" for kind in conditions.CONDITIONS)
    rows = "\n".join(
        f"| `{reason}` | {', '.join(facts.conditions)} | {'yes' if facts.final else ''} | {facts.meaning} | {facts.remedy} |"
        for reason, facts in sorted(reasons.FACTS.items())
    )
    return (
        "# Conditions and reasons\n\n"
        "Every wait and every refusal of a Model is a condition with one of these reasons. `kubectl describe mdl NAME` and "
        "`flexinfer why NAME` show them.\n\n"
        f"| Condition | Written by |\n|---|---|\n{owners}\n\n"
        "A final reason does not change by waiting: the phase is then `Failed`.\n\n"
        f"| Reason | Conditions | Final | Meaning | Remedy |\n|---|---|---|---|---|\n{rows}\n"
    )


def rights_page() -> str:
    """Return the page of what each service may do in a cluster, from the manifests and the permissions of the bus."""
    built = (ROOT / "deploy" / "install.yaml").read_text()
    roles = [obj for obj in yaml.safe_load_all(built) if obj and obj["kind"] in ("ClusterRole", "Role")]
    api = "\n".join(
        f"| {role['metadata']['name'].removeprefix('flexinfer-')} | {', '.join(rule['verbs'])} | "
        f"{', '.join(rule['resources'])} | {_where(role, rule)} |"
        for role in sorted(roles, key=lambda role: (role["metadata"]["name"], role["kind"]))
        for rule in role["rules"]
    )
    bus = "\n".join(
        f"| {user} | {_subjects(permissions(user).publish)} | {_subjects(permissions(user).subscribe)} |"
        for user in USERS
    )
    return (
        "# Rights\n\nWhat each service may do in a cluster. Admission policies narrow it further: an agent writes on its own Node, and on "
        "labels and annotations of ours, alone; launcher, prefetcher and arbiter write what carries our label, and Leases of ours, alone.\n\n"
        f"## The Kubernetes API\n\n| Service | Verbs | Resources | Where |\n|---|---|---|---|\n{api}\n\n"
        f"## NATS\n\n| User | Publishes | Hears |\n|---|---|---|\n{bus}\n"
    )


def _where(role: dict[str, Any], rule: dict[str, Any]) -> str:
    place = "everywhere" if role["kind"] == "ClusterRole" else "`flexinfer-system`"
    names = rule.get("resourceNames")
    return f"{place}, {', '.join(f'`{name}`' for name in names)} alone" if names else place


def _subjects(found: tuple[str, ...]) -> str:
    return "<br>".join(f"`{subject}`" for subject in found)


def subjects_page() -> str:
    """Return the page of streams, subjects and events."""
    streams = "\n".join(
        f"| `{name}` | {', '.join(f'`{p}`' for p in patterns)} |"
        for name, patterns in subjects.STREAMS.items()
    )
    kinds = [
        kind
        for _, kind in inspect.getmembers(events, inspect.isclass)
        if issubclass(kind, events.Event) and kind is not events.Event
    ]
    rows = "\n".join(
        f"| `{kind.__name__}` | {_first_line(kind)} | {', '.join(f'`{f.encode_name}`' for f in msgspec.structs.fields(kind))} |"
        for kind in sorted(kinds, key=lambda k: k.__name__)
    )
    hears = "\n".join(
        f"| {receiver} | {', '.join(owners)} |" for receiver, owners in CHANGED_RECEIVERS.items()
    )
    return (
        "# Subjects and events\n\n"
        "`flexinfer tap` prints every event as one readable line; `nats sub 'flexinfer.>'` shows the JSON.\n\n"
        f"| Stream | Subjects |\n|---|---|\n{streams}\n\n"
        "Names are encoded: letters, digits and `-` stay, any other byte is `_xx`. Hints (`flexinfer.wake`, `.changed`, `.ready`) are "
        "on core NATS and kept nowhere.\n\n"
        f"| Event | What it says | Fields |\n|---|---|---|\n{rows}\n\n"
        f"| Receiver | hears of status writes by |\n|---|---|\n{hears}\n"
    )


def settings_page() -> str:
    """Return the page of settings."""
    source = inspect.getsource(settings.Settings)
    rows = []
    for field in msgspec.structs.fields(settings.Settings):
        match = re.search(rf'^    {field.name}: .*\n(?:    """(.*?)""")?', source, re.MULTILINE | re.DOTALL)
        text = " ".join((match[1] or "").split()) if match else ""
        rows.append(f"| `{settings.PREFIX}{field.name.upper()}` | `{field.default!r}` | {text} |")
    return (
        "# Settings\n\nEvery service reads these variables; a bad value names its variable and stops the process.\n\n"
        "| Variable | Default | Meaning |\n|---|---|---|\n" + "\n".join(rows) + "\n"
    )


def model_page() -> str:
    """Return the page of the Model's fields, from the CRD."""
    crd = yaml.safe_load((ROOT / "crds" / "models.yaml").read_text())
    schema = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    rows = "\n".join(_fields(schema, ""))
    return (
        f"# Model ({API_VERSION})\n\n`kubectl explain model.spec` prints the same.\n\n"
        f"| Field | Type | Default | Meaning |\n|---|---|---|---|\n{rows}\n"
    )


def _fields(schema: dict[str, Any], path: str) -> list[str]:
    rows = []
    for name, field in schema.get("properties", {}).items():
        if path == "" and name not in ("spec", "status"):
            continue
        here = f"{path}.{name}" if path else name
        kind = field.get("type") or ("integer or string" if field.get("x-kubernetes-int-or-string") else "")
        choices = field.get("enum")
        words = " ".join(str(field.get("description", "")).split()).replace("|", "\\|")
        allowed = f" One of {', '.join(f'`{c}`' for c in choices)}." if choices else ""
        default = f"`{field['default']}`" if "default" in field else ""
        if path:
            rows.append(f"| `{here}` | {kind} | {default} | {words}{allowed} |")
        rows += _fields(field, here)
        rows += _fields(field.get("items", {}), f"{here}[]")
    return rows


def _first_line(kind: type) -> str:
    return (inspect.getdoc(kind) or "").partition("\n")[0]


def main() -> None:
    """Write the pages."""
    for path, text in pages().items():
        path.write_text(text)
        sys.stdout.write(f"{path.relative_to(ROOT)}\n")


if __name__ == "__main__":
    main()
