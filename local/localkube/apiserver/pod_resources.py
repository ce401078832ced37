"""Validation of the resources of a new Pod's containers.

Like validateContainerResourceRequirements of pkg/apis/core/validation: amounts are not negative, and a request is at most the limit.
"""

from collections.abc import Iterator

from localkube.apiserver.errors import Cause
from localkube.apiserver.resources import Object
from localkube.apiserver.schema_validation import INVALID
from localkube.quantity import milli


def resource_causes(spec: Object) -> Iterator[Cause]:
    """Yield what a real API server rejects of the containers of a Pod's spec."""
    for kind in ("containers", "initContainers"):
        for index, container in enumerate(spec.get(kind) or ()):
            yield from _of_container(container.get("resources") or {}, f"spec.{kind}[{index}].resources")


def _of_container(resources: Object, path: str) -> Iterator[Cause]:
    limits = resources.get("limits") or {}
    for kind in ("limits", "requests"):
        for name, amount in (resources.get(kind) or {}).items():
            if _milli(amount) < 0:
                message = f'Invalid value: "{amount}": must be greater than or equal to 0'
                yield Cause(INVALID, message, f"{path}.{kind}[{name}]")
    for name, amount in (resources.get("requests") or {}).items():
        if name in limits and _milli(amount) > _milli(limits[name]):
            message = (
                f'Invalid value: "{amount}": must be less than or equal to {name} limit of {limits[name]}'
            )
            yield Cause(INVALID, message, f"{path}.requests")


def _milli(amount: str | float) -> int:
    """Return an amount in thousandths; what is none was rejected by the schema."""
    try:
        return milli(amount)
    except ValueError:
        return 0
