"""Inert texts: what a user wrote reaches the engine as it is, though the kubelet replaces `$(NAME)` in arguments and variables. Pure.

`$$` stands for `$`: https://kubernetes.io/docs/tasks/inject-data-application/define-interdependent-environment-variables/.
"""

from typing import Any

import msgspec

from flexinfer.api.model import ModelSpec
from flexinfer.api.podspec import EnvVar

Json = dict[str, Any]


def text(value: str) -> str:
    """Return a text that the kubelet turns into this one."""
    return value.replace("$", "$$")


def spec(of: ModelSpec) -> ModelSpec:
    """Return a spec whose source and config are inert."""
    return msgspec.structs.replace(of, source=text(of.source), config=_value(of.config))


def variable(of: EnvVar) -> Json:
    """Return a variable as a container has it; what is read from a Secret or ConfigMap is never replaced."""
    if of.value_from is None:
        return {"name": of.name, "value": text(of.value)}
    return {"name": of.name, "valueFrom": msgspec.to_builtins(of.value_from)}


def _value(value: Any) -> Any:
    if isinstance(value, str):
        return text(value)
    if isinstance(value, dict):
        return {_value(key): _value(item) for key, item in value.items()}
    return [_value(item) for item in value] if isinstance(value, list) else value
