"""Every Model reaches the phase that it must have without requests, and what should run does; no engine is left."""

from collections.abc import Collection, Mapping

from flexinfer.api import conditions
from flexinfer.api.model import Model
from flexinfer.api.phase import Phase
from flexinfer.api.reasons import Reason
from tests.simulation.laws.base import Law


class Convergence(Law):
    """Judges the Models at the end."""

    def expected(self, model: Model, models: Collection[Model]) -> frozenset[str]:
        """Return the phases that a Model may have without requests, once nothing changes any more."""
        if model.key in self.checker.simulation.machines.behaviour.never_ready:
            return frozenset({Phase.FAILED, Phase.IDLE, Phase.PENDING, Phase.LOADING})
        if model.condition_status(conditions.ACCEPTED) == conditions.FALSE:
            return frozenset({Phase.FAILED})
        wanted = model.condition(conditions.WANTED)
        if wanted is not None and wanted.reason in (Reason.START_FAILED, Reason.FIRST_START_FAILED):
            return frozenset({Phase.FAILED})
        rests = Phase.IDLE if model.spec.serverless.enabled else Phase.READY
        # Two that always run and do not fit together take turns, each after maxWait.
        turns = {rests, Phase.PENDING, Phase.PREEMPTED}
        return frozenset(turns if _beside_always_on(model, models) else {rests})

    def reached(self) -> bool:
        """Return whether every Model has its phase, and nothing runs that should not."""
        models = self.checker.simulation.models()
        every = models.values()
        reached = all(m.status.phase in self.expected(m, every) and not m.deleting for m in every)
        return reached and not self._left(models) and not self._unserved(every)

    def _unserved(self, models: Collection[Model]) -> list[str]:
        """Return the shared groups whose devices have no engine although a member of them always runs."""
        never = self.checker.simulation.machines.behaviour.never_ready
        served = {model.spec.group for model in models if model.status.phase == Phase.READY}
        asks = {m.spec.group for m in models if not m.spec.serverless.enabled and m.key not in never}
        failed = {
            m.spec.group for m in models if self.expected(m, models) == {Phase.FAILED} or m.key in never
        }
        return sorted(asks - served - failed - {""})

    def _left(self, models: Mapping[str, Model]) -> list[str]:
        """Return the Models that are idle or deleted, and have an engine."""
        every = models.values()
        may_run = {key for key, model in models.items() if self.expected(model, every) != {Phase.IDLE}}
        engines = self.checker.simulation.machines.engines.values()
        return [e.model for e in engines if not e.ended and e.model not in may_run]

    def ends_history(self) -> None:
        """Judge phases, deletions and engines."""
        models = self.checker.simulation.models()
        for key, model in models.items():
            expected = self.expected(model, models.values())
            if model.deleting:
                self.report(f"{key} is still being deleted")
            elif model.status.phase not in expected:
                self.report(_wrong(model, expected))
        if unserved := self._unserved(models.values()):
            self.report(f"no engine runs in {unserved}, where a Model always runs")
        if left := self._left(models):
            self.report(f"engines of Models that are idle still run: {left}")


def _beside_always_on(model: Model, models: Collection[Model]) -> bool:
    """Return whether another member of a Model's group always runs: one of them has the devices, and does not leave them."""
    mates = [
        m for m in models if model.spec.group and m.spec.group == model.spec.group and m.uid != model.uid
    ]
    return any(not mate.spec.serverless.enabled for mate in mates)


def _wrong(model: Model, expected: frozenset[str]) -> str:
    conditions = ", ".join(
        f"{c.type}={c.status}/{c.reason}@{c.observed_generation}" for c in model.status.conditions
    )
    phases = " or ".join(sorted(expected))
    return (
        f"{model.key} is {model.status.phase}, not {phases} "
        f"(generation {model.metadata.generation}): {conditions}"
    )
