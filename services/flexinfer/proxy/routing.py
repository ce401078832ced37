"""Routing: which Model a request names, and whether that Model can serve it. Pure.

Precedence: the path `/model/<namespace>/<name>/...`, then the Host `<name>.<namespace>[.svc[.<domain>]]` if there is such a Model,
then `model` in the body. Any other Host is a name of the user's network, and says nothing. A body names a Model by its name, by an alias
that only one Model has, or by a label, which goes to the best Model that has it.
"""

from collections.abc import Container, Sequence

import msgspec

from flexinfer import backends
from flexinfer.api import conditions, reasons
from flexinfer.api.installation import PROXY_SERVICE
from flexinfer.api.model import Model
from flexinfer.api.names import aliases, labels
from flexinfer.api.phase import phase_of
from flexinfer.api.reasons import Reason
from flexinfer.backends.base import Backend
from flexinfer.proxy import paths
from flexinfer.proxy.models import ModelTable

_STOPS = frozenset({Reason.DRAINING, Reason.STOPPING})


class RouteMatch(msgspec.Struct, frozen=True):
    """What path and Host say: the Model's key if they name it, and the normalised path that the engine is asked for."""

    key: str | None
    path: str


def match_request(path: str, host: str, keys: Container[str]) -> RouteMatch:
    """Return the Model that path (as it was sent, with its escapes) or Host name; `keys` are those of all Models.

    Raises RequestError (400) for a path that is not valid.
    """
    path = paths.normalise(path)
    parts = path.split("/", 4)
    if len(parts) == 5 and parts[1] == "model":  # noqa: PLR2004 -- /model/<namespace>/<name>/rest
        return RouteMatch(f"{parts[2]}/{parts[3]}", f"/{parts[4]}")
    key = _key_of_host(host)
    return RouteMatch(key if key in keys else None, path)


def served_paths(model: Model | None) -> Sequence[str]:
    """Return what a Model's backend serves to clients: paths for POST, and `GET <path>`; without a Model, that of all backends."""
    backends = _backends(model)
    posts = [path for backend in backends for path in backend.api_paths]
    gets = [f"GET {path}" for backend in backends for path in backend.read_paths]
    return tuple(dict.fromkeys((*posts, *gets)))


def served_methods(path: str, model: Model | None) -> Sequence[str]:
    """Return the methods by which a Model's backend serves a normalised path to clients; without a Model, any backend."""
    if not paths.is_plain(path):
        return ()
    backends = _backends(model)
    read = any(backend.serves(path, read=True) for backend in backends)
    return (*(("GET", "HEAD") if read else ()), *(("POST",) if any(b.serves(path) for b in backends) else ()))


def _backends(model: Model | None) -> Sequence[Backend]:
    """Return the backend of a Model; all of them without a Model, or with one of an unknown backend."""
    backend = backends.find(model.spec.backend) if model is not None else None
    return backends.all_backends() if backend is None else (backend,)


def _key_of_host(host: str) -> str | None:
    name = host.rpartition(":")[0] if host.rpartition(":")[2].isdigit() and ":" in host else host
    labels = name.rstrip(".").lower().split(".")
    names_model = len(labels) == 2 or (len(labels) > 2 and labels[2] == "svc")  # noqa: PLR2004
    if not names_model or not all(labels[:2]) or labels[0].isdigit() or labels[0] == PROXY_SERVICE:
        return None
    return f"{labels[1]}/{labels[0]}"


def find_model(name: str, table: ModelTable, default_namespace: str) -> Model | None:
    """Return the Model that a body names, None when there is none or more than one.

    A name means what it means in the default namespace; what begins with `<namespace>/`, in that one; any other, in the one
    namespace that knows it.
    """
    namespace, _, short = name.partition("/")
    readings = [(default_namespace, name), *([(namespace, short)] if short else []), ("", name)]
    for reading, model_name in readings:
        for keys, choose in (
            (table.keys_of_name(model_name), _only),
            (table.keys_of_alias(model_name), _only),
            (table.keys_of_label(model_name), _best),
        ):
            models = [m for m in map(table.models.__getitem__, keys) if reading in {"", m.metadata.namespace}]
            if len({m.metadata.namespace for m in models}) == 1:
                return choose(models)
    return None


def candidates(name: str, table: ModelTable, default_namespace: str) -> list[str]:
    """Return the ids of all Models that have a name, an alias or a label, in whatever namespace; in order."""
    namespace, _, short = name.partition("/")
    keys = {
        key
        for keys_of in (table.keys_of_name, table.keys_of_alias, table.keys_of_label)
        for key in (
            *keys_of(name),
            *(k for k in (keys_of(short) if short else ()) if k.startswith(f"{namespace}/")),
        )
    }
    return sorted(public_id(table.models[key], default_namespace) for key in keys)


def _only(models: Sequence[Model]) -> Model | None:
    return models[0] if len(models) == 1 else None


def _best(models: Sequence[Model]) -> Model:
    """Return the Model that serves a label: a ready one first, then one that can be started, by priority and name."""

    def order(model: Model) -> tuple[bool, bool, int, str]:
        failed = model.deleting or permanent_failure(model) is not None
        return not ready_address(model), failed, -model.spec.priority, model.metadata.name

    return min(models, key=order)


def further_names(table: ModelTable, default_namespace: str) -> dict[str, Model]:
    """Return every alias and label by which a request reaches a Model, in its shortest form, and that Model; in order.

    A label stands there as the first Model writes it.
    """
    names: dict[str, tuple[str, Model]] = {}
    for model in sorted(table.models.values(), key=lambda m: m.key):
        for name in (*aliases(model), *model.spec.service_labels):
            for form in (name, f"{model.metadata.namespace}/{name}"):
                target = find_model(form, table, default_namespace)
                if target is not None and _has(target, name, model.metadata.namespace):
                    label = name.casefold() in labels(target)
                    names.setdefault(form.casefold() if label else form, (form, target))
                    break
    return dict(sorted(names.values(), key=lambda entry: entry[0]))


def _has(model: Model, name: str, namespace: str) -> bool:
    """Return whether a Model of this namespace has a further name."""
    named = name in aliases(model) or name.casefold() in labels(model)
    return named and model.metadata.namespace == namespace


def public_id(model: Model, default_namespace: str) -> str:
    """Return the id that `/v1/models` shows."""
    meta = model.metadata
    return meta.name if meta.namespace == default_namespace else meta.key


def ready_address(model: Model) -> str:
    """Return host:port of the Model's engine if requests may be sent to it, else an empty string."""
    condition = model.condition(conditions.READY)
    backend = model.status.backend
    if condition is None or not condition.true or model.deleting or backend is None:
        return ""
    return backend.address


def is_stopping(model: Model) -> bool:
    """Return whether the Model's engine is about to be stopped."""
    condition = model.condition(conditions.READY)
    return condition is not None and not condition.true and condition.reason in _STOPS


def permanent_failure(model: Model) -> conditions.Condition | None:
    """Return the condition for which no request can make this Model ready, or None."""
    for condition in model.status.conditions:
        rejects = condition.reason in reasons.REJECTS_REQUESTS
        current = condition.observed_generation == model.metadata.generation
        if condition.status == conditions.FALSE and rejects and current:
            return condition
    return None


def phase(model: Model) -> str:
    """Return the Model's phase as it follows from its conditions now."""
    return phase_of(model.status.conditions, model.metadata.generation)
