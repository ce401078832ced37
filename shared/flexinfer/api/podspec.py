"""The parts of a Pod's spec that a Model takes over as they are. Pure."""

from flexinfer.api.base import Resource
from flexinfer.api.quantity import Quantity


class SecretReference(Resource, frozen=True, kw_only=True):
    """A Secret of the Model's namespace."""

    name: str = ""


class Resources(Resource, frozen=True, kw_only=True):
    """Requests and limits of the engine's container, GPUs aside."""

    limits: dict[str, Quantity] = {}
    requests: dict[str, Quantity] = {}


class Toleration(Resource, frozen=True, kw_only=True):
    """A toleration, as a Pod has it: `operator` is Equal or Exists, an empty key with Exists means every taint."""

    key: str = ""
    operator: str = "Equal"
    value: str = ""
    effect: str = ""
    toleration_seconds: int | None = None

    def covers(self, key: str, value: str, effect: str) -> bool:
        """Return whether it covers a taint: https://kubernetes.io/docs/concepts/scheduling-eviction/taint-and-toleration/."""
        if self.effect and self.effect != effect:
            return False
        if self.key and self.key != key:
            return False
        return self.operator == "Exists" or (bool(self.key) and self.value == value)


class KeyReference(Resource, frozen=True, kw_only=True):
    """A key of a Secret or a ConfigMap of the Model's namespace."""

    name: str = ""
    key: str = ""
    optional: bool = False


class EnvVarSource(Resource, frozen=True, kw_only=True):
    """Where the value of a variable is read from: one of the two."""

    secret_key_ref: KeyReference | None = None
    config_map_key_ref: KeyReference | None = None


class EnvVar(Resource, frozen=True, kw_only=True):
    """A variable of the engine's environment, as in a Pod."""

    name: str
    value: str = ""
    value_from: EnvVarSource | None = None
