"""The reference pages that are generated from code: reasons, subjects, settings, backends, Model fields.

`make generate` writes them; a contract test fails while one is stale.
"""

import argparse
import ast
import importlib
import inspect
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec
import yaml

from flexinfer import backends
from flexinfer.api import conditions, reasons
from flexinfer.api.group_reasons import GROUP_FACTS
from flexinfer.api.groupversion import API_VERSION
from flexinfer.api.labels import ALLOW_UNSUPPORTED_ANNOTATION
from flexinfer.api.lease_reasons import LEASE_FACTS
from flexinfer.api.services import CHANGED_RECEIVERS, OWNERS
from flexinfer.backends import generations
from flexinfer.backends.checks import CHECKS, IMAGE_CHECKS
from flexinfer.backends.options import INTEGER, LARGEST, NUMBER, Key
from flexinfer.cli.commands import COMMANDS
from flexinfer.credentials.secrets import USERS
from flexinfer.events import events, subjects
from flexinfer.events.base import Event
from flexinfer.events.permissions import permissions
from flexinfer.local.supervisor import user_settings
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
        FOLDER / "backends.md": MADE + backends_page(),
        FOLDER / "model.md": MADE + model_page(),
        FOLDER / "sharedgroup.md": MADE + shared_group_page(),
        FOLDER / "gpulease.md": MADE + lease_page(),
        FOLDER / "rights.md": MADE + rights_page(),
        FOLDER / "cli.md": MADE + cli_page(),
    }


def cli_page() -> str:
    """Return the page of commands, from the table of the command line."""
    rows = "\n".join(
        f"| `flexinfer {name}` | {text.replace('|', chr(92) + '|')} | {'yes' if _knows_clusters(name) else ''} |"
        for name, text in sorted(COMMANDS.items())
    )
    return (
        "# Commands\n\n"
        "`flexinfer COMMAND --help` lists the options of a command. Without `--context`, a command is for the instance of `--state`, else for what "
        "the environment names (`KUBECONFIG`, `OPENAI_BASE_URL`, `OPENAI_API_KEY`, `NATS_URL`), else for the instance of `$FLEXINFER_STATE` or of the "
        "user's state folder. With `--context NAME`, before the command or after it, it is for the FlexInfer of a cluster: "
        "[Reach FlexInfer in a cluster](../how-to/reach-a-cluster.md).\n\n"
        f"| Command | What it does | `--context` |\n|---|---|---|\n{rows}\n\n"
        "The exit status is 0 for success, 1 for a failure that one sentence on standard error explains, 2 for a command line that is not understood.\n"
    )


def _knows_clusters(name: str) -> bool:
    """Tell whether a command works against a cluster."""
    parser = argparse.ArgumentParser()
    importlib.import_module(f"flexinfer.cli.{name}").arguments(parser)
    return bool(parser.get_default("knows_clusters"))


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
    """Return the page of what each component may do in a cluster, from the manifests and the NATS permissions."""
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
        "# Rights\n\nWhat each component may do in a cluster. Admission policies narrow it further: an agent may only write FlexInfer's labels and "
        "annotations on its own Node; launcher, prefetcher and arbiter may only write objects with FlexInfer's labels, and FlexInfer's Leases.\n\n"
        f"## The Kubernetes API\n\n| Component | Verbs | Resources | Where |\n|---|---|---|---|\n{api}\n\n"
        f"## NATS\n\n| User | Publishes | Subscribes to |\n|---|---|---|\n{bus}\n"
    )


def _where(role: dict[str, Any], rule: dict[str, Any]) -> str:
    place = "everywhere" if role["kind"] == "ClusterRole" else "`flexinfer-system`"
    names = rule.get("resourceNames")
    return f"{place}, only {', '.join(f'`{name}`' for name in names)}" if names else place


def _subjects(patterns: tuple[str, ...]) -> str:
    return "<br>".join(f"`{subject}`" for subject in patterns)


def subjects_page() -> str:
    """Return the page of streams, subjects and events."""
    streams = "\n".join(
        f"| `{name}` | {', '.join(f'`{p}`' for p in patterns)} |"
        for name, patterns in subjects.STREAMS.items()
    )
    kinds = [
        kind
        for _, kind in inspect.getmembers(events, inspect.isclass)
        if issubclass(kind, Event) and kind is not Event
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
        "`flexinfer tap` prints the steps of Models, one readable line each, `flexinfer tap 'flexinfer.>'` every event; `nats sub 'flexinfer.>'` shows the JSON.\n\n"
        f"| Stream | Subjects |\n|---|---|\n{streams}\n\n"
        "Names are encoded: letters, digits and `-` stay, any other byte is `_xx`. Hints (`flexinfer.wake`, `.changed`, `.ready`, `.sample`) are "
        "on core NATS and kept nowhere.\n\n"
        f"| Event | What it says | Fields |\n|---|---|---|\n{rows}\n\n"
        f"| Receiver | receives hints of status writes by |\n|---|---|\n{hears}\n"
    )


def settings_page() -> str:
    """Return the page of settings."""
    meanings = _texts_below_fields(settings.Settings)
    rows = "\n".join(
        f"| `{_variable(field.name)}` | {_code(field.default)} | {_cell(meanings[field.name])} |"
        for field in msgspec.structs.fields(settings.Settings)
    )
    overrides = "\n".join(
        f"| `{settings.IMAGE_PREFIX}{key.upper()}` | {_replaced(backend, key)} |"
        for backend in backends.all_backends()
        for key in backend.image_keys
    )
    programs = dict.fromkeys(
        settings.program_variables(),
        "Local node: the program that runs this backend's engine, a path or a name on PATH; read when the node starts.",
    )
    others = "\n".join(
        f"| `{name}` | {text} |" for name, text in {**settings.OTHER_VARIABLES, **programs}.items()
    )
    refused = "\n".join(
        f"| `{_variable(field)}` | {_cell(why)} |" for field, why in user_settings.SET_BY_THE_INSTANCE.items()
    )
    return (
        "# Settings\n\nEvery service reads these variables when it starts. A bad value stops the process with a message that names the variable. "
        "An unknown variable that begins with `FLEXINFER_` is ignored, with a warning in the log that names the nearest known one.\n\n"
        f"| Variable | Default | Meaning |\n|---|---|---|\n{rows}\n\n"
        "## With `flexinfer up`\n\nSet a variable in the environment of the command: every component gets it, and one with another value "
        "restarts at the next `up`. These an instance sets itself; `up` refuses them by name. The proxy listens on 127.0.0.1, or with "
        "`FLEXINFER_PROXY_HOST=0.0.0.0` (or `::`) [on every address](../how-to/serve-your-network.md).\n\n"
        f"| Variable | Why |\n|---|---|\n{refused}\n\n"
        "## Images of engines\n\nSet them where services get their settings: in a cluster the ConfigMap `flexinfer-settings` (`deploy/base/settings.env`). A variable "
        "with an architecture, such as `FLEXINFER_IMAGE_VLLM_GFX1100` or, for all of a generation, `FLEXINFER_IMAGE_OLLAMA_SM_5`, takes precedence "
        "over one with a vendor, and that over the one without; `spec.image` of a Model over all. Defaults are on [Backends](backends.md).\n\n"
        f"| Variable | Replaces |\n|---|---|\n{overrides}\n\n"
        "## Other variables\n\nThese begin with the same prefix and are no settings of a service.\n\n"
        f"| Variable | Meaning |\n|---|---|\n{others}\n"
    )


def _variable(field: str) -> str:
    if field == "images":
        return f"{settings.IMAGE_PREFIX}<BACKEND>[_<VENDOR>]"
    return f"{settings.PREFIX}{field.upper()}"


def _texts_below_fields(kind: type) -> dict[str, str]:
    """Return the docstring below each field of a class, by the field's name; empty where there is none."""
    (definition,) = ast.parse(inspect.getsource(kind)).body
    body = definition.body if isinstance(definition, ast.ClassDef) else []
    texts = {}
    for node, following in zip(body, [*body[1:], None], strict=True):
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            constant = following.value if isinstance(following, ast.Expr) else None
            texts[node.target.id] = str(constant.value) if isinstance(constant, ast.Constant) else ""
    return texts


def _replaced(backend: backends.Backend, key: str) -> str:
    vendor = key.removeprefix(backend.image_key).removeprefix("_")
    return f"{backend.title} on {vendor}" if vendor else f"{backend.title}, every vendor"


def backends_page() -> str:
    """Return the page of backends: what each is, runs on and accepts."""
    sections = "\n".join(_backend(backend) for backend in backends.all_backends())
    return (
        "# Backends\n\n`spec.backend` of a Model is one of these names or aliases. `spec.config` accepts the keys of its backend; any other key, "
        "and a value of another type, is refused by name in the condition `Accepted`. A value is one argument or variable of the engine: no shell "
        "reads it, and `$(NAME)` in it stays as it is. What no key stands for goes into `spec.config.extraArgs`, a list of arguments that FlexInfer does not check, or into "
        "`spec.env`; what FlexInfer sets itself, API keys, the choice of devices and what loads code are refused there.\n\n"
        "`spec.image` replaces the engine's image for one Model. `FLEXINFER_IMAGE_<BACKEND>_<ARCHITECTURE>`, `FLEXINFER_IMAGE_<BACKEND>_<VENDOR>` "
        "or `FLEXINFER_IMAGE_<BACKEND>`, the first that is set, replaces it for all "
        f"(see [Settings](settings.md)). `OMP_NUM_THREADS` is the number of CPUs that the Pod has: its limit, else its request.\n\n{_generations()}\n{_proof()}\n{sections}"
    )


def _proof() -> str:
    """Return what was seen of which engine."""
    proven = [
        f"{backend.name} with {backend.proven}" for backend in backends.all_backends() if backend.proven
    ]
    unproven = _codes(backend.name for backend in backends.all_backends() if not backend.proven)
    rows, of_images = (
        "".join(f"| `{name}` | {meaning} |\n" for name, meaning in checks.items())
        for checks in (CHECKS, IMAGE_CHECKS)
    )
    return (
        "## What is proven\n\nFlexInfer relies on these of an engine. `tests/engines` runs each check on the real program, with the command line that a "
        f"Model becomes. They have run on {'; '.join(proven)}. Of {unproven} none has run: each of these checks is unproven for them, and what stands "
        "below follows their documentation and lists of flags (`tests/unit/backends/flags`, with the versions that these are from).\n\n"
        f"| Check | What must hold |\n|---|---|\n{rows}\n"
        f"Of `diffusers`, which draws images, these:\n\n| Check | What must hold |\n|---|---|\n{of_images}"
    )


def _generations() -> str:
    """Return the table of GPU generations: which backend cannot run there, which may fail."""
    rows = "".join(
        f"| {g.vendor} `{g.prefix}*` | [{g.name}]({g.source}) | {_with_rules(g, experimental=False)} | {_with_rules(g, experimental=True)} |\n"
        for g in generations.GENERATIONS
    )
    return (
        "## GPU generations\n\nThe placer puts no Model on a GPU that its backend cannot run on, and says so in `Placed`; where it may fail, "
        "`Placed` has a warning. Of what stands in neither column nothing is known. The annotation "
        f"`{ALLOW_UNSUPPORTED_ANNOTATION}: <why>` of a Model lets it run anywhere; the reason given is repeated in `Placed`. Details and "
        "sources stand with each backend below.\n\n"
        f"| Architecture | Generation | Cannot run | May fail |\n|---|---|---|---|\n{rows}"
    )


def _with_rules(generation: generations.Generation, *, experimental: bool) -> str:
    ruled = (
        (b, generations.rules(b, generation, experimental=experimental)) for b in backends.all_backends()
    )
    return ", ".join(f"{b.name}{_when(r)}" for b, r in ruled if r)


def _when(rules: Iterable[backends.ArchitectureRule]) -> str:
    """Return for which specs rules hold; empty if for all."""
    cases = [rule.when for rule in rules if rule.when]
    return f" ({'; or '.join(cases)})" if cases else ""


def _rule_lines(rules: Iterable[backends.ArchitectureRule], verb: str) -> str:
    return "".join(
        f"{verb} {rule.vendor} `{rule.prefix}*`{f', with {rule.when}' if rule.when else ''}: {rule.reason} "
        f"([source]({rule.source})).\n\n"
        for rule in rules
    )


def _backend(backend: backends.Backend) -> str:
    facts = {
        "Aliases": _codes(backend.aliases) or "none",
        "Sources": _codes(f"{scheme}://" for scheme in backend.schemes),
        "Port": f"{backend.port}, probed at `{backend.health}`",
        "API": _codes((*backend.api_paths, *(f"GET {path}" for path in backend.read_paths))),
        "On the local node": _local(backend.local_program),
        "GPUs": f"at most {backend.most_devices}"
        if backend.most_devices
        else "as many as `spec.gpu.count` says",
        "Proven": f"with {backend.proven}" if backend.proven else "no: it follows the engine's documentation",
    }
    rows = "".join(f"| {name} | {text} |\n" for name, text in facts.items())
    images = "".join(
        f"| {vendor} | `{image}` | `{settings.IMAGE_PREFIX}{backend.image_key.upper()}_{vendor.upper()}` |\n"
        for vendor, image in backend.images.items()
    )
    gpus = _rule_lines(backend.unsupported_architectures, "Cannot run on")
    gpus += _rule_lines(backend.experimental_architectures, "May fail on")
    keys_ = "".join(_config_key(name, key) for name, key in sorted(backend.keys.items()))
    return (
        f"## {backend.name}\n\n{backend.title}.\n\n| | |\n|---|---|\n{rows}\n"
        f"| Vendor | Default image | Replaced by |\n|---|---|---|\n{images}\n{gpus}"
        f"| Key of `spec.config` | Type | Default | Becomes | Meaning |\n|---|---|---|---|---|\n{keys_}{_refused(backend)}"
    )


def _config_key(name: str, key: Key) -> str:
    bounds = f", at most {key.most:g}" if key.most != LARGEST else ""
    bounds = f", at least {key.least:g}{bounds}" if key.type in (INTEGER, NUMBER) else ""
    kind = f"one of {_codes(key.choices)}" if key.choices else f"{key.type}{bounds}"
    becomes = " or ".join(f"`{text}`" for text in (key.flag or key.becomes, key.off) if text)
    default = f"`{key.default}`" if key.default.lstrip("-").isalnum() else key.default
    return f"| `{name}` | {kind} | {_cell(default)} | {becomes} | {_cell(key.doc)} |\n"


def _refused(backend: backends.Backend) -> str:
    """Return what `extraArgs` and `spec.env` may not hold."""
    by_reason: dict[str, list[str]] = {}
    for flag, why in (backend.extra.denied if backend.extra else {}).items():
        by_reason.setdefault(why, []).append(flag)
    flags = "; ".join(f"{_codes(flags)} ({why})" for why, flags in by_reason.items())
    lines = [f"\n`extraArgs` may not hold {flags}, nor what a key sets.\n"] if flags else []
    variables = _codes(backend.denied_variables)
    return "".join(lines + ([f"\n`spec.env` may not set {variables}.\n"] if variables else []))


def _local(program: backends.LocalProgram | None) -> str:
    if program is None:
        return "no"
    fallback = f", else `{program.fallback}`" if program.fallback else ""
    return f"`{program.program}`{fallback}; {program.install}"


def _codes(texts: Iterable[str]) -> str:
    return ", ".join(f"`{text}`" for text in texts)


def _code(value: object) -> str:
    return f"`{value}`" if isinstance(value, str | float) and value != "" else "empty"


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


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


def _fields(schema: dict[str, Any], path: str) -> list[str]:
    rows = []
    for name, field in schema.get("properties", {}).items():
        if path == "" and name not in ("spec", "status"):
            continue
        here = f"{path}.{name}" if path else name
        kind = field.get("type") or ("integer or string" if field.get("x-kubernetes-int-or-string") else "")
        choices = field.get("enum")
        words = _cell(str(field.get("description", "")))
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
