"""The components that a test plays itself: it writes each condition as the field manager of its owner."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeVar

import msgspec

from flexinfer.api import conditions, kube
from flexinfer.api.conditions import Condition
from flexinfer.api.groupversion import API_VERSION, KIND
from flexinfer.api.metadata import Metadata
from flexinfer.api.model import Model
from flexinfer.api.placement import Placement
from flexinfer.api.reasons import Reason
from flexinfer.api.services import WRITERS
from flexinfer.api.sharedgroup import (
    INITIALIZED,
    HeldDevice,
    Holder,
    SharedGroup,
    SharedGroupSpec,
    SharedGroupStatus,
    object_name,
)
from flexinfer.runtime.kubernetes.api import MODELS, PODS, SHARED_GROUPS, Kind, NotFoundError
from flexinfer.runtime.kubernetes.client import KubernetesClient
from tests.patience import patient

T = TypeVar("T")
NAMESPACES: Kind[Any] = Kind("v1", "Namespace", "namespaces", msgspec.Raw, namespaced=False)
_TIMEOUT = patient(60.0)
"""Seconds; there is no agent, and the arbiter waits for one for 30 s before its first grant."""


class Owners:
    """All components except the one under test, in one namespace."""

    def __init__(self, cluster: KubernetesClient, namespace: str) -> None:
        self._cluster, self._namespace = cluster, namespace

    async def open(self) -> None:
        """Create the namespace."""
        body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": self._namespace}}
        await self._cluster.create(NAMESPACES, "", body)

    async def apply(self, name: str, group: str = "", gpu: Mapping[str, object] | None = None) -> None:
        """Create a Model, optionally as a member of a shared group, or with other devices than one of NVIDIA's."""
        gpu = {**(gpu or {"vendor": "nvidia"}), **({"shared": group} if group else {})}
        body = {
            "apiVersion": API_VERSION,
            "kind": KIND,
            "metadata": {"name": name},
            "spec": {
                "backend": "ollama",
                "source": "ollama://tiny",
                "cache": {"strategy": "None"},  # no claim: nothing provisions one here
                "gpu": gpu,
            },
        }
        await self._cluster.create(MODELS, self._namespace, body)

    async def model(self, name: str) -> Model:
        """Return the current Model."""
        return await self._cluster.get(MODELS, self._namespace, name)

    async def delete(self, name: str) -> None:
        """Delete a Model, without waiting until it is gone."""
        await self._cluster.delete(MODELS, self._namespace, name)

    async def gone(self, name: str) -> None:
        """Wait until a Model is deleted."""
        with contextlib.suppress(NotFoundError):
            await self.until(name, lambda _model: False)

    async def pod(self, name: str) -> kube.Pod | None:
        """Return the Pod of a Model, or None."""
        try:
            return await self._cluster.get(PODS, self._namespace, f"{name}-0")
        except NotFoundError:
            return None

    async def group(self, group: str) -> SharedGroup | None:
        """Return the SharedGroup of a group, or None."""
        try:
            return await self._cluster.get(SHARED_GROUPS, self._namespace, object_name(group))
        except NotFoundError:
            return None

    async def write_condition(self, name: str, kind: str, status: str, reason: str, **fields: Any) -> None:
        """Write a condition as its owner, for the Model's current generation."""
        model = await self.model(name)
        condition = {
            "type": kind,
            "status": status,
            "reason": reason,
            "message": "set by the test",
            "observedGeneration": model.metadata.generation,
            "lastTransitionTime": "2026-01-01T00:00:00Z",
        }
        body = {
            "apiVersion": API_VERSION,
            "kind": KIND,
            "metadata": {"name": name},
            "status": {**fields, "conditions": [condition]},
        }
        manager = f"flexinfer-{WRITERS[kind]}"
        await self._cluster.apply(MODELS, self._namespace, body, manager=manager, subresource="status")

    async def prepare(self, name: str) -> None:
        """Set Placed and Cached to True, on a node of the shared group's own that does not exist: its Pod stays Pending."""
        node = f"node-{(await self.model(name)).spec.group or name}"
        since = "2026-01-01T00:00:00Z"  # that of Wanted below
        placement = {"node": node, "vendor": "nvidia", "devices": [{"uuid": "GPU-0"}], "checkedFor": since}
        await self.write_condition(name, conditions.PLACED, "True", Reason.PLACED, placement=placement)
        await self.write_condition(name, conditions.CACHED, "True", Reason.CACHED)

    async def want(self, name: str, wanted: str = "True") -> None:
        """Set Wanted, to True unless given."""
        reason = Reason.REQUESTED if wanted == "True" else Reason.IDLE
        await self.write_condition(name, conditions.WANTED, wanted, reason)

    async def turn(self, name: str, group: str, turn: int, step: str) -> None:
        """Write a step of a turn to the group's SharedGroup, and Granted to its holder."""
        model = await self.model(name)
        devices = tuple(HeldDevice(uuid=device) for device in (model.status.placement or Placement()).uuids)
        node = model.assigned_node
        holder = Holder(model=name, uid=model.uid, turn=turn, step=step, node=node, devices=devices)
        await self.write_group(group, SharedGroupStatus(turn=turn, holders=(holder,)))
        granted = ("True", Reason.GRANTED) if step == "Granted" else ("False", Reason.RELEASED)
        state = "Holding" if step == "Granted" else "Releasing"
        shared = {"group": group, "state": state, "turn": turn, "holders": [name]}
        await self.write_condition(name, conditions.GRANTED, *granted, sharedGroup=shared)

    async def write_group(self, group: str, status: SharedGroupStatus) -> None:
        """Write the status of a group's SharedGroup, as initialised; creates it if there is none."""
        current = await self.group(group)
        if current is None:
            metadata = Metadata(name=object_name(group), namespace=self._namespace)
            body = SharedGroup(metadata=metadata, spec=SharedGroupSpec(group=group))
            current = await self._cluster.create(SHARED_GROUPS, self._namespace, body)
        initialized = Condition(
            type=INITIALIZED,
            status="True",
            reason=INITIALIZED,
            last_transition_time="2026-01-01T00:00:00Z",
        )
        status = msgspec.structs.replace(status, conditions=(initialized,))
        body = msgspec.structs.replace(current, status=status)
        name = current.metadata.name
        await self._cluster.replace(SHARED_GROUPS, self._namespace, name, body, subresource="status")

    async def stopped(self, name: str, turn: int) -> None:
        """Set Ready to False/Stopped for a turn, as the launcher does when its engine has stopped."""
        await self.write_condition(name, conditions.READY, "False", Reason.STOPPED, backend={"turn": turn})

    async def until(self, name: str, predicate: Callable[[Model], object]) -> Model:
        """Wait until a predicate holds for a Model; raise AssertionError with its status otherwise."""
        return await _until(lambda: self.model(name), predicate, lambda: self._statuses(name))

    async def until_pod(self, name: str, predicate: Callable[[kube.Pod | None], object]) -> kube.Pod | None:
        """Wait until a predicate holds for the Pod of a Model; raise AssertionError with its status otherwise."""
        return await _until(lambda: self.pod(name), predicate, lambda: self._statuses(name))

    async def until_group(
        self, group: str, predicate: Callable[[SharedGroup | None], object]
    ) -> SharedGroup | None:
        """Wait until a predicate holds for the SharedGroup of a group; raise AssertionError with it otherwise."""

        async def seen() -> str:
            return f"the SharedGroup after {_TIMEOUT:g} s: {await self.group(group)}"

        return await _until(lambda: self.group(group), predicate, seen)

    async def _statuses(self, name: str) -> str:
        """Return the status of a Model and of its Pod, for the message of a failure."""
        pod = await self.pod(name)
        status = msgspec.json.encode((await self.model(name)).status).decode()
        return f"{name} after {_TIMEOUT:g} s: {status}; its Pod: {msgspec.json.encode(pod).decode()}"


async def _until(
    read: Callable[[], Awaitable[T]], predicate: Callable[[T], object], seen: Callable[[], Awaitable[str]]
) -> T:
    """Wait until a predicate holds for what is read, and return that; raise AssertionError with what is seen otherwise."""
    try:
        async with asyncio.timeout(_TIMEOUT):
            while not predicate(current := await read()):
                await asyncio.sleep(0.03)
            return current
    except TimeoutError:
        raise AssertionError(await seen()) from None
