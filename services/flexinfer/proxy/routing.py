"""Routing: which Model a request names, and what state it is in. Pure.

Precedence: the path `/model/<namespace>/<name>/...`, then the Host `<name>.<namespace>[.svc[.<domain>]]`, then the body's `model`. A body names a
Model by `<name>` in the door's default namespace, by `<namespace>/<name>`, or by an alias that only one Model has.
"""

from collections.abc import Mapping

import msgspec

from flexinfer.api import conditions
from flexinfer.api.installation import PROXY_SERVICE
from flexinfer.api.model import Model
from flexinfer.api.phase import phase_of
from flexinfer.api.reasons import Reason

_HOPELESS = frozenset({Reason.SOURCE_NOT_FOUND, Reason.NAME_TAKEN})
"""Final reasons that a request cannot change; the others are tried again by one."""


class Target(msgspec.Struct, frozen=True):
    """Where a request goes by its path: the Model's key if the path names it, and the rest of the path."""

    key: str | None
    path: str


def target(path: str, host: str) -> Target:
    """Return what path and Host say of the Model."""
    if path.startswith("/model/"):
        parts = path.split("/", 4)
        if len(parts) == 5 and parts[2] and parts[3]:  # noqa: PLR2004 -- /model/<namespace>/<name>/rest
            return Target(f"{parts[2]}/{parts[3]}", f"/{parts[4]}")
    return Target(_of_host(host), path)


def _of_host(host: str) -> str | None:
    name = host.rpartition(":")[0] if host.rpartition(":")[2].isdigit() and ":" in host else host
    labels = name.rstrip(".").lower().split(".")
    named = len(labels) == 2 or (len(labels) > 2 and labels[2] == "svc")  # noqa: PLR2004
    if not named or not all(labels[:2]) or labels[0].isdigit() or labels[0] == PROXY_SERVICE:
        return None
    return f"{labels[1]}/{labels[0]}"


def resolve(name: str, models: Mapping[str, Model], default: str) -> Model | None:
    """Return the Model that a body names."""
    for key in (f"{default}/{name}", name):
        if key in models:
            return models[key]
    known = [m for m in models.values() if name in _aliases(m)]
    return known[0] if len(known) == 1 else None


def _aliases(model: Model) -> tuple[str, ...]:
    told = model.spec.litellm
    if told is None or not told.enabled:
        return ()
    return (*((told.served_model_name,) if told.served_model_name else ()), *told.aliases)


def public_id(model: Model, default: str) -> str:
    """Return the id that `/v1/models` shows."""
    meta = model.metadata
    return meta.name if meta.namespace == default else meta.key


def ready(model: Model) -> str:
    """Return host:port of an engine that may be asked, or nothing."""
    said = model.condition(conditions.READY)
    backend = model.status.backend
    if said is None or not said.true or model.deleting or backend is None:
        return ""
    return backend.address


def hopeless(model: Model) -> conditions.Condition | None:
    """Return the condition for which a request cannot bring this Model up, or None."""
    for said in model.status.conditions:
        current = said.observed_generation == model.metadata.generation
        refused = said.type == conditions.ACCEPTED or said.reason in _HOPELESS
        if said.status == conditions.FALSE and refused and current:
            return said
    return None


def state(model: Model) -> str:
    """Return the Model's phase as it follows from its conditions now."""
    return phase_of(model.status.conditions, model.metadata.generation)
