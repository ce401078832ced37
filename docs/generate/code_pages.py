"""The pages of commands, conditions, rights, subjects and settings, from the tables of the code."""

import argparse
import ast
import importlib
import inspect
from pathlib import Path
from typing import Any

import msgspec
import yaml
from markdown_cells import cell, code, first_line

from flexinfer import backends
from flexinfer.api import conditions, reasons
from flexinfer.api.services import CHANGED_RECEIVERS, OWNERS
from flexinfer.cli.commands import COMMANDS
from flexinfer.credentials.secrets import USERS
from flexinfer.events import events, subjects
from flexinfer.events.base import Event
from flexinfer.events.permissions import permissions
from flexinfer.local.supervisor import user_settings
from flexinfer.runtime import metrics, settings

ROOT = Path(__file__).resolve().parents[2]


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
    """Return whether a command works against a cluster."""
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
        f"| `{kind.__name__}` | {first_line(kind)} | {', '.join(f'`{f.encode_name}`' for f in msgspec.structs.fields(kind))} |"
        for kind in sorted(kinds, key=lambda k: k.__name__)
    )
    hears = "\n".join(
        f"| {receiver} | {', '.join(owners)} |" for receiver, owners in CHANGED_RECEIVERS.items()
    )
    return (
        "# Subjects and events\n\n"
        "`flexinfer tap` prints the steps of Models, one readable line each, `flexinfer tap 'flexinfer.>'` every event; `nats sub 'flexinfer.>'` shows the JSON ([NATS's own command line](https://github.com/nats-io/natscli), which reads `NATS_URL`).\n\n"
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
        f"| `{_variable(field.name)}` | {code(field.default)} | {cell(meanings[field.name])} |"
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
        f"| `{_variable(field)}` | {cell(why)} |" for field, why in user_settings.SET_BY_THE_INSTANCE.items()
    )
    return (
        "# Settings\n\nEvery component reads these variables when it starts. A bad value stops the process with a message that names the variable and what is required. "
        "Space around a value does not count, and an empty variable is the default where nothing else is said. "
        "An unknown variable that begins with `FLEXINFER_` is ignored, with a warning in the log, and from `flexinfer up`, that names the nearest known one.\n\n"
        f"| Variable | Default | Meaning |\n|---|---|---|\n{rows}\n\n"
        "## With `flexinfer up`\n\nSet a variable in the environment of the command: every component gets it, and one with another value "
        "restarts at the next `up`. These an instance sets itself; `up` refuses them by name. The proxy listens on 127.0.0.1, or with "
        "`FLEXINFER_PROXY_HOST=0.0.0.0` (or `::`) [on every address](../how-to/serve-your-network.md).\n\n"
        f"| Variable | Why |\n|---|---|\n{refused}\n\n"
        "## Images of engines\n\nSet them where services get their settings: in a cluster the ConfigMap `flexinfer-settings` (`deploy/base/settings.env`). A variable "
        "with an architecture, such as `FLEXINFER_IMAGE_VLLM_GFX1100` or, for all of a generation, `FLEXINFER_IMAGE_OLLAMA_SM_5`, takes precedence "
        "over one with a vendor, and that over the one without; `spec.image` of a Model over all. Defaults are on [Backends](backends.md).\n\n"
        f"| Variable | Replaces |\n|---|---|\n{overrides}\n\n"
        "## Other variables\n\nThese begin with the same prefix and are not settings of a service.\n\n"
        f"| Variable | Meaning |\n|---|---|\n{others}\n"
    )


def metrics_page() -> str:
    """Return the page of metrics."""
    own = "\n".join(
        f"| `{m.name}` | {m.kind} | {', '.join(f'`{label}`' for label in m.labels)} | {m.unit} | {cell(m.meaning)} |"
        for m in metrics.METRICS
    )
    buckets = "\n".join(
        f"| `{m.name}` | {', '.join(f'{bound:g}' for bound in m.buckets)} |"
        for m in metrics.METRICS
        if m.buckets
    )
    engines = "\n".join(
        f"| {one.name} | `{one.in_flight}` | {', '.join(f'`{name}`' for name in one.in_flight_metrics)} |"
        for one in backends.all_backends()
        if one.in_flight
    )
    return (
        "# Metrics\n\n[Scrape them with Prometheus](../how-to/prometheus.md). Every component answers `/metrics` on its health port, 8081 in a cluster "
        "(`FLEXINFER_HEALTH_PORT`), in the Prometheus text format. No key is needed: [who may connect](../how-to/prometheus.md#who-may-read-them) is for the "
        "network to say.\n\n"
        f"| Metric | Kind | Labels | Unit | Meaning |\n|---|---|---|---|---|\n{own}\n\n"
        "A component has only the metrics that it has values of: those of requests are the proxy's. `model_namespace` and `model` name a Model that exists, until it "
        "is deleted; no label has what a client sent. Histograms, errors and retries of a Model begin with its first request through a proxy. A histogram has the series `_bucket`, `_sum` and `_count`.\n\n"
        "The last bound is above the longest wait that limits allow: `coldStartTimeout` is at most 2h, and with a larger `FLEXINFER_QUEUE_SECONDS` than the default "
        "further bounds follow, each twice the one before.\n\n"
        f"| Histogram | Upper bounds of its buckets, in seconds |\n|---|---|\n{buckets}\n\n"
        "## Models\n\nThe state of Models is in the Kubernetes API, from which kube-state-metrics makes metrics with `deploy/monitoring/kube-state-metrics.yaml`.\n\n"
        "## Engines\n\nThese engines have metrics of their own, on port 8080 of their Pods. The launcher reads how many requests are in flight from "
        "those that are named here, before it stops an engine; the others are on the engine's own page.\n\n"
        f"| Backend | Path | Requests in flight |\n|---|---|---|\n{engines}\n"
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
