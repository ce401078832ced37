"""A card of 24,576 MiB, or several of them, that several Pods may have at once, the members of a group on it, and what requests they have."""

from collections.abc import Mapping
from typing import Any

import msgspec

from flexinfer.api.bindings import DEVICE_PLUGIN
from flexinfer.api.model import Gpu, Model, Serverless
from flexinfer.api.placement import Placement, placed_devices
from flexinfer.api.reasons import Reason
from flexinfer.api.sharedgroup import GRANTED, STOPPED, HeldDevice, SharedGroup
from flexinfer.events import events
from flexinfer.events.nodes import Device, DeviceProcess
from flexinfer.state.observed import ObservedState
from tests.builders import NOW, a_group, a_holder, a_node, a_pod, a_state, running
from tests.unit.arbiter.groups import WANTED, later, member

TOTAL_MB = 24_576
FIRST = (*WANTED[:3], ("Wanted", "True", Reason.FIRST_START))


class Card:
    """What is observed of the card; `observed` is the state at a time."""

    def __init__(self, group: SharedGroup | None = None, *, shared: bool = True) -> None:
        self._group = group if group is not None else a_group()
        self._models: dict[str, Model] = {}
        self._steps: dict[str, str] = {}
        self._busy: dict[str, Mapping[str, int]] = {}
        self._last: dict[str, float] = {}
        self._used: dict[str, int] = {}
        self._entries: dict[str, int] = {}
        self._on: dict[str, tuple[str, ...]] = {}
        self._shared, self.foreign_mb, self.late_mb = shared, 0, 0
        self.away: Mapping[str, int] = {}
        self.preempted_by: Mapping[str, str] = {}
        self.room_for = ""

    @property
    def models(self) -> list[Model]:
        """The Models of the group."""
        return list(self._models.values())

    def holds(
        self,
        name: str,
        memory_mb: int,
        *,
        used_mb: int | None = None,
        step: str = GRANTED,
        entry_mb: int | None = None,
        loading: bool = False,
        reason: Reason = Reason.STARTING,
        **facts: Any,
    ) -> None:
        """Add a holder whose engine is ready since NOW, and idle, or still loads, for a `reason`; its entry is `entry_mb`, by default what its placement says."""
        self._entries |= {name: entry_mb} if entry_mb is not None else {}
        ready: Any = ("Ready", "False", reason) if loading else "Ready"
        wanted = facts.pop("wanted", WANTED)
        conditions = (*wanted, "Granted", ready) if step == GRANTED else (*wanted,)
        self._add(name, memory_mb, conditions, **facts)
        self._steps[name], self._used[name] = step, memory_mb if used_mb is None else used_mb

    def waits(self, name: str, memory_mb: int, conditions: Any = WANTED, **facts: Any) -> None:
        """Add a Model that a request waits for since NOW."""
        self._add(name, memory_mb, conditions, **facts)
        if conditions == WANTED:
            self._busy[name] = {"in_flight": 0, "waiting": 1}

    def serves(self, *names: str) -> None:
        """Let holders have a request in flight."""
        self._busy |= {name: {"in_flight": 1, "waiting": 0} for name in names}

    def served(self, **seconds_ago: float) -> None:
        """Let the last request of holders have ended so long ago."""
        self._last |= seconds_ago

    def _add(
        self, name: str, memory_mb: int, conditions: Any, *, uuids: tuple[str, ...] = ("GPU-1",), **facts: Any
    ) -> None:
        self._on[name] = uuids
        gpu = Gpu(
            vendor="nvidia",
            shared="card",
            **{k: facts.pop(k) for k in ("priority", "exclusive") if k in facts},
        )
        placed = Placement(
            node="a",
            vendor="nvidia",
            binding=DEVICE_PLUGIN,
            shared=self._shared,
            devices=placed_devices(uuids, memory_mb),
        )
        model = member(name, conditions, gpu=gpu, **({"placement": placed} | facts))
        self._models[name] = model

    def group(self, **spec: Any) -> SharedGroup:
        """Return the SharedGroup with its holders."""
        entries = [
            a_holder(
                name,
                uid=self._models[name].uid,
                turn=turn,
                step=step,
                devices=tuple(HeldDevice(uuid=uuid, memory_mb=self._need(name)) for uuid in self._on[name]),
                made_room=name in self.away,
                away_seconds=self.away.get(name),
                preempted_by=self.preempted_by.get(name, ""),
                reason="it is idle" if name in self.preempted_by else "",
            )
            for turn, (name, step) in enumerate(self._steps.items(), start=1)
        ]
        shared = a_group(*entries, version=100, initialized=True)
        status = msgspec.structs.replace(shared.status, room_for=self.room_for)
        shared = msgspec.structs.replace(shared, status=status)
        return msgspec.structs.replace(shared, spec=msgspec.structs.replace(self._group.spec, **spec))

    def _need(self, name: str) -> int:
        if name in self._entries:
            return self._entries[name]
        placement = self._models[name].status.placement
        return placement.devices[0].memory_mb if placement is not None else 0

    def observed(self, seconds: float = 1.0, **spec: Any) -> ObservedState:
        """Return what is observed so long after NOW."""
        now = NOW + seconds
        state = a_state(
            a_node("a"), events.ProxyObserved(proxy="p"), *self._models.values(), self.group(**spec)
        )
        for step in range(5, int(seconds), 5):
            state = later(state, NOW + step, events.ProxyObserved(proxy="p"))
        pods = [
            running(model, a_pod(model, uid=f"pod-{name}"))
            for name, model in self._models.items()
            if self._steps.get(name, STOPPED) != STOPPED
        ]
        return later(
            state, now, events.ProxyObserved(proxy="p"), *pods, *self._traffic(seconds), self.sample()
        )

    def _traffic(self, seconds: float) -> list[events.ActivityObserved]:
        nothing = {"in_flight": 0, "waiting": 0}
        return [
            events.ActivityObserved(
                proxy="p",
                namespace="default",
                name=name,
                uid=model.uid,
                idle_seconds=0.0 if name in self._busy else self._last.get(name, seconds),
                **self._busy.get(name, nothing),
            )
            for name, model in self._models.items()
            if name in self._steps or name in self._busy
        ]

    def sample(self, **changes: Any) -> events.GpusObserved:
        """Return telemetry of every card as it is now; the game and what is late are on the first."""
        uuids = sorted({"GPU-1", *(uuid for on in self._on.values() for uuid in on)})
        devices = tuple(self._device(uuid, **changes) for uuid in uuids)
        return events.GpusObserved(node="a", boot="b", sample=1, devices=devices)

    def _device(self, uuid: str, **changes: Any) -> Device:
        ours = [
            DeviceProcess(pid=pid, used_mb=used, name="llama-server", started=pid, pod_uid=f"pod-{name}")
            for pid, (name, used) in enumerate(self._used.items(), start=10)
            if uuid in self._on[name]
        ]
        first = uuid == "GPU-1"
        game = (
            [DeviceProcess(pid=99, used_mb=self.foreign_mb, name="game", started=99)]
            if self.foreign_mb and first
            else []
        )
        used = sum(process.used_mb for process in (*ours, *game)) + (self.late_mb if first else 0)
        facts: dict[str, Any] = {"total_mb": TOTAL_MB, "free_mb": TOTAL_MB - used, "used_mb": used}
        return Device(uuid=uuid, processes=(*ours, *game), **(facts | changes))


ALWAYS = Serverless(enabled=False)
