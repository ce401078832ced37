"""A history of cards: requests, edits, leases, games, late memory, lies of telemetry and arbiters that are killed; then calm, in which all are served."""

from functools import partial

import msgspec

from flexinfer.api.lease import GPULease, GPULeaseSpec
from flexinfer.api.metadata import Metadata
from flexinfer.api.sharedgroup import BUDGET, ONE_AT_A_TIME
from flexinfer.events import events
from tests.simulation.cards.arbiter import Arbiter
from tests.simulation.cards.engines import Engines
from tests.simulation.cards.laws import Laws
from tests.simulation.cards.processes import Process
from tests.simulation.cards.world import BEGIN, CARDS, World

FAULT_SECONDS, RATE = 30.0, 0.9
_NEW, _ASKED_WHEN_NEW = 0.3, 1.0
"""The share of histories whose Models are yet to make their initial starts, and how often these are asked for."""
CALM_SECONDS = 600.0
"""How long after the last fault every Model that was asked for has answered, those of lower priority after all others."""
_ACTS = (
    ("ask", 12.0),
    ("edit", 1.0),
    ("govern", 0.7),
    ("lease", 0.8),
    ("give", 0.4),
    ("game", 0.5),
    ("silence", 0.4),
    ("hide", 0.4),
    ("kill", 0.6),
    ("sample", 1.0),
)


class Played(msgspec.Struct):
    """What a history came to."""

    seed: int
    problems: list[str]
    seconds: float
    grants: int
    served: int


class History:
    """One history of a seed."""

    def __init__(self, seed: int) -> None:
        self._seed, self._world = seed, World(seed)
        self._laws = Laws(self._world)
        self._arbiter = Arbiter(self._world, self._laws)
        self._engines = Engines(self._world, self._arbiter)
        self._names = [f"m{number}" for number in range(self._world.chance.randint(2, 5))]
        self._leases, self._playing = 0, dict[str, int]()
        self._is_new = self._world.chance.random() < _NEW

    def play(self) -> Played:
        """Play it to its end."""
        world = self._world
        for name in self._names:
            self._engines.create(name, verified=not self._is_new)
        self._act_again()
        self._until(BEGIN + FAULT_SECONDS)
        self._calm()
        end = world.now + CALM_SECONDS
        while world.now < end and (self._engines.waiting or self._engines.stuck()):
            self._until(world.now + 5.0)
        if self._engines.waiting:
            world.report_problem(f"never answered: {self._engines.waiting}; {self._held()}")
        if stuck := self._engines.stuck():
            world.report_problem(f"never given back: {stuck}")
        return Played(
            self._seed, world.problems, world.now - BEGIN, self._arbiter.grants, self._engines.served
        )

    def _until(self, end: float) -> None:
        world = self._world
        while True:
            self._settle()
            at = min(world.next_at(), self._arbiter.next_due())
            if at > end:
                world.happen(end)
                return
            world.happen(max(at, world.now))

    def _settle(self) -> None:
        for _ in range(100):
            self._arbiter.settle()
            before = self._world.state
            self._engines.follow()
            self._follow_leases()
            if self._world.state is before and not self._arbiter.has_work:
                self._laws.look()
                return
        self._world.report_problem("components do not settle")

    def _held(self) -> str:
        groups = self._world.state.groups.values()
        texts = [
            c.message
            for m in self._world.state.models.values()
            for c in m.status.conditions
            if c.type == "Granted"
        ]
        return "; ".join([*(f"{g.name}: {g.status.holder_names}" for g in groups), *texts])

    # --- what happens

    def _act_again(self) -> None:
        world = self._world
        if world.now >= BEGIN + FAULT_SECONDS:
            return
        weights = dict(_ACTS) | ({"ask": _ASKED_WHEN_NEW} if self._is_new else {})
        [act] = world.chance.choices([*weights], [*weights.values()])
        {
            "ask": lambda: self._engines.ask(world.chance.choice(self._names)),
            "edit": lambda: self._engines.edit(world.chance.choice(self._names)),
            "govern": self._govern,
            "lease": self._take,
            "give": self._give,
            "game": self._game,
            "silence": lambda: setattr(world, "silent_until", world.now + world.chance.choice([5.0, 40.0])),
            "hide": lambda: setattr(world, "unlisted_until", world.now + world.chance.choice([2.0, 15.0])),
            "kill": self._kill,
            "sample": world.sample,
        }[act]()
        world.enter(world.chance.expovariate(RATE), self._act_again)

    def _calm(self) -> None:
        """End all faults, and ask for every Model once more."""
        world = self._world
        world.silent_until = world.unlisted_until = 0.0
        self._engines.calm = True
        for pid, process in list(world.processes.items()):
            if not process.owner and process.listed:
                world.end(pid, 0.5)
        for key in sorted(world.state.leases):
            self._delete(key)
        for name in self._names:
            self._engines.rest(name)
            self._engines.ask(name)

    def _govern(self) -> None:
        world, chance = self._world, self._world.chance
        for _, group in sorted(world.state.groups.items()):  # in an order of its own: hashing differs
            spec = msgspec.structs.replace(
                group.spec,
                mode=chance.choice([BUDGET, BUDGET, ONE_AT_A_TIME]),
                min_stay=chance.choice(["0s", "10s", "30s", "60s"]),
                max_wait=chance.choice(["10s", "60s"]),
                reserve_mb=chance.choice([512, 1024]),
            )
            world.write_spec(msgspec.structs.replace(group, spec=spec))

    def _kill(self) -> None:
        """Let another arbiter take over: it knows what it observes now, and nothing else."""
        self._world.forget()
        self._laws.forget()

    def _game(self) -> None:
        """Let a game begin on a card and end; one that finds no room there does not begin."""
        world, mb = self._world, 1500
        card, seconds = world.chance.choice(CARDS), world.chance.uniform(3.0, 20.0)
        if world.free_mb(card) >= mb:
            pid = world.begin(Process(cards=(card,), mb=mb, counted_mb=mb))
            world.enter(seconds, lambda: self._world.end(pid, 0.5) if self._runs(pid) else None)

    def _runs(self, pid: int) -> bool:
        process = self._world.processes.get(pid)
        return process is not None and process.listed

    # --- leases

    def _take(self) -> None:
        chance, self._leases = self._world.chance, self._leases + 1
        name = f"lease{self._leases}"
        spec = GPULeaseSpec(
            group=chance.choice(["g", "g", "h"]),
            memory_mb=chance.choice([1000, 3000, None]),
            priority=chance.choice([50, 1000]),
            duration=chance.choice(["5s", "20s"]),
        )
        metadata = Metadata(
            name=name, namespace="default", uid=f"uid-{name}", resource_version="1", generation=1
        )
        self._world.observe(events.LeaseObserved(lease=GPULease(metadata=metadata, spec=spec)))

    def _give(self) -> None:
        keys = sorted(self._world.state.leases)
        if keys:
            self._delete(self._world.chance.choice(keys))

    def _delete(self, key: str) -> None:
        lease = self._world.state.leases.get(key)
        if lease is not None:
            meta = lease.metadata
            gone = events.LeaseDeleted(
                namespace=meta.namespace, name=meta.name, uid=meta.uid, version=meta.version + 1
            )
            self._world.observe(gone)

    def _follow_leases(self) -> None:
        """Begin the process of a lease that is granted, and end that of one that is over."""
        world = self._world
        granted = {lease.metadata.name: lease for lease in world.state.leases.values() if lease.granted}
        for name, lease in granted.items():
            if name not in self._playing and lease.spec.memory_mb:
                process = Process(
                    cards=tuple(held.uuid for held in lease.status.devices),
                    mb=lease.spec.memory_mb,
                    counted_mb=lease.spec.memory_mb,
                    owner=name,
                    sampled_at=self._arbiter.sampled.get(lease.uid, 0.0),
                )
                self._playing[name] = world.begin(process)
        for name in [name for name in self._playing if name not in granted]:
            pid = self._playing.pop(name)
            world.enter(world.chance.choice([0.0, 1.0, 4.0]), partial(world.end, pid, 0.5))


def play(seed: int) -> Played:
    """Play the history of a seed."""
    return History(seed).play()
