"""The services that a test plays itself, so that the world moves exactly when it says: each verdict by its owner's field manager."""

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any

import msgspec

from flexinfer.api import conditions, kube
from flexinfer.api.groupversion import API_VERSION, KIND
from flexinfer.api.model import Model
from flexinfer.api.reasons import Reason
from flexinfer.api.services import OWNERS
from flexinfer.events.workload import GroupLease, group_lease, lease_name, lease_of
from flexinfer.runtime.kubernetes.api import LEASES, MODELS, PODS, Kind, NotFoundError
from flexinfer.runtime.kubernetes.client import KubernetesClient

NAMESPACES: Kind[Any] = Kind("v1", "Namespace", "namespaces", msgspec.Raw, namespaced=False)
PATIENCE = 30.0
PLACEMENT = {"node": "nowhere", "vendor": "nvidia", "devices": ["GPU-0"]}


class Others:
    """Everybody but the service under test, in one namespace."""

    def __init__(self, cluster: KubernetesClient, namespace: str) -> None:
        self._cluster, self._namespace = cluster, namespace

    async def open(self) -> None:
        """Make the namespace."""
        body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": self._namespace}}
        await self._cluster.create(NAMESPACES, "", body)

    async def apply(self, name: str, group: str = "") -> None:
        """Make a Model, alone on its device or one of a group."""
        gpu = {"vendor": "nvidia"} | ({"shared": group} if group else {})
        body = {
            "apiVersion": API_VERSION,
            "kind": KIND,
            "metadata": {"name": name},
            "spec": {"backend": "ollama", "source": "ollama://tiny", "gpu": gpu},
        }
        await self._cluster.create(MODELS, self._namespace, body)

    async def model(self, name: str) -> Model:
        """Return a Model as it is now."""
        return await self._cluster.get(MODELS, self._namespace, name)

    async def delete(self, name: str) -> None:
        """Ask for a Model's deletion."""
        await self._cluster.delete(MODELS, self._namespace, name)

    async def gone(self, name: str) -> None:
        """Wait until there is no such Model."""
        with contextlib.suppress(NotFoundError):
            await self.until(name, lambda _model: False)

    async def pod(self, name: str) -> kube.Pod | None:
        """Return a Model's Pod, if there is one."""
        try:
            return await self._cluster.get(PODS, self._namespace, f"{name}-0")
        except NotFoundError:
            return None

    async def lease(self, group: str) -> GroupLease | None:
        """Return a group's turn."""
        try:
            return group_lease(await self._cluster.get(LEASES, self._namespace, lease_name(group)))
        except NotFoundError:
            return None

    async def say(self, name: str, kind: str, status: str, reason: str, **fields: Any) -> None:
        """Write an owner's verdict on the Model's present generation."""
        model = await self.model(name)
        condition = {
            "type": kind,
            "status": status,
            "reason": reason,
            "message": "as the test says",
            "observedGeneration": model.metadata.generation,
            "lastTransitionTime": "2026-01-01T00:00:00Z",
        }
        body = {
            "apiVersion": API_VERSION,
            "kind": KIND,
            "metadata": {"name": name},
            "status": {**fields, "conditions": [condition]},
        }
        manager = f"flexinfer-{OWNERS[kind]}"
        await self._cluster.apply(MODELS, self._namespace, body, manager=manager, subresource="status")

    async def prepare(self, name: str) -> None:
        """Place and cache a Model."""
        await self.say(name, conditions.PLACED, "True", Reason.PLACED, placement=PLACEMENT)
        await self.say(name, conditions.CACHED, "True", Reason.CACHED)

    async def want(self, name: str, wanted: str = "True") -> None:
        """Want a Model, or no longer."""
        reason = Reason.REQUESTED if wanted == "True" else Reason.IDLE
        await self.say(name, conditions.WANTED, wanted, reason)

    async def turn(self, name: str, group: str, turn: int, step: str) -> None:
        """Move a group's Lease, and tell the Model that it concerns."""
        model, known = await self.model(name), await self.lease(group)
        lease = GroupLease(
            namespace=self._namespace,
            group=group,
            version=known.version if known else 0,
            holder=name,
            holder_uid=model.uid,
            step=step,
            turn=turn,
        )
        if known is None:
            await self._cluster.create(LEASES, self._namespace, lease_of(lease))
        else:
            await self._cluster.replace(LEASES, self._namespace, lease.name, lease_of(lease))
        granted = ("True", Reason.GRANTED) if step == "Granted" else ("False", Reason.RELEASED)
        state = "Active" if step == "Granted" else "Releasing"
        shared = {"group": group, "state": state, "turn": turn, "holder": name}
        await self.say(name, conditions.GRANTED, *granted, sharedGroup=shared)

    async def stopped(self, name: str, turn: int) -> None:
        """Say for the launcher that a turn's engine is gone."""
        await self.say(name, conditions.READY, "False", Reason.STOPPED, backend={"turn": turn})

    async def until(self, name: str, true: Callable[[Model], object]) -> Model:
        """Wait until something holds of a Model."""
        async with asyncio.timeout(PATIENCE):
            while not true(model := await self.model(name)):
                await asyncio.sleep(0.03)
            return model

    async def until_pod(self, name: str, true: Callable[[kube.Pod | None], object]) -> kube.Pod | None:
        """Wait until something holds of a Model's Pod."""
        async with asyncio.timeout(PATIENCE):
            while not true(pod := await self.pod(name)):
                await asyncio.sleep(0.03)
            return pod

    async def until_lease(self, group: str, true: Callable[[GroupLease | None], object]) -> GroupLease | None:
        """Wait until something holds of a group's turn."""
        async with asyncio.timeout(PATIENCE):
            while not true(lease := await self.lease(group)):
                await asyncio.sleep(0.03)
            return lease
