"""Every Model reaches the phase that it must have without requests, and what should run does; no engine is left."""

from flexinfer.api import conditions
from flexinfer.api.model import Model
from flexinfer.api.phase import Phase
from flexinfer.api.reasons import Reason
from tests.simulation.laws.base import Law


class Convergence(Law):
    """Judges the Models at the end."""

    def expected(self, model: Model) -> frozenset[str]:
        """Return the phases that a Model may have without requests, once nothing changes any more."""
        simulation = self.checker.simulation
        always_on = {m.key for m in simulation.models().values() if not m.spec.serverless.enabled}
        never = simulation.machines.behaviour.never_ready
        if model.key in never:
            return frozenset({Phase.FAILED, Phase.IDLE, Phase.PENDING, Phase.LOADING})
        if model.condition_status(conditions.ACCEPTED) == conditions.FALSE:
            return frozenset({Phase.FAILED})
        wanted = model.condition(conditions.WANTED)
        if wanted is not None and wanted.reason in (Reason.START_FAILED, Reason.FIRST_START_FAILED):
            return frozenset({Phase.FAILED})
        if model.key in always_on:
            return frozenset({Phase.READY})
        mates = [m for m in simulation.models().values() if m.spec.group == model.spec.group]
        if model.spec.group and any(mate.key in always_on for mate in mates):
            return frozenset({Phase.IDLE, Phase.PENDING})
        return frozenset({Phase.IDLE})

    def reached(self) -> bool:
        """Tell whether every Model has its phase."""
        models = self.checker.simulation.models().values()
        reached = all(m.status.phase in self.expected(m) and not m.deleting for m in models)
        return reached and not self._left()

    def _left(self) -> list[str]:
        """Return the Models that are idle or deleted, and have an engine."""
        simulation = self.checker.simulation
        may_run = {k for k, m in simulation.models().items() if self.expected(m) != {Phase.IDLE}}
        engines = simulation.machines.engines.values()
        return [e.model for e in engines if not e.ended and e.model not in may_run]

    def ends_history(self) -> None:
        """Judge phases, deletions and engines."""
        simulation = self.checker.simulation
        for key, model in simulation.models().items():
            expected = self.expected(model)
            if model.deleting:
                self.report(f"{key} is still being deleted")
            elif model.status.phase not in expected:
                self.report(_wrong(model, expected))
        if left := self._left():
            self.report(f"engines of Models that are idle still run: {left}")


def _wrong(model: Model, expected: frozenset[str]) -> str:
    conditions = ", ".join(
        f"{c.type}={c.status}/{c.reason}@{c.observed_generation}" for c in model.status.conditions
    )
    phases = " or ".join(sorted(expected))
    return (
        f"{model.key} is {model.status.phase}, not {phases} "
        f"(generation {model.metadata.generation}): {conditions}"
    )
