"""The comparison: one Model at a time, and requests strictly in the order of their arrival, as llama-swap serves them. Pure.

A request for another Model than the loaded one waits until all before it are answered; then the loaded one leaves. Nothing leaves for idleness.
"""

from collections.abc import Sequence

from flexinfer.cli.replay.results import LEAVING, LOADING, SERVING, Outcome, Served, Span
from flexinfer.cli.replay.trace import Request, Trace, TraceModel


class _Slot:
    """The one engine, and the times at which the requests that it answers end."""

    def __init__(self, release_seconds: float) -> None:
        self._release_seconds = release_seconds
        self._model: TraceModel | None = None
        self._ready_at, self._ends, self._started = 0.0, list[float](), 0.0
        self.spans: list[Span] = []
        self.swaps: list[float] = []
        self.loads = 0

    def serve(self, model: TraceModel, request: Request) -> Served:
        """Answer the next request."""
        at, swapped = max(request.at, self._started), False
        if self._model is None or self._model.name != model.name:
            swapped = self._model is not None
            at = max([at, *self._ends])
            self._load(model, at)
        elif self._ready_at > request.at:
            swapped = len(self.swaps) > 0
        self._ends = [end for end in self._ends if end > at]
        at = max(at, self._ready_at)
        if len(self._ends) >= model.parallel:
            at = max(at, sorted(self._ends)[-model.parallel])
        self._started = at
        self._ends.append(at + request.service_seconds)
        end_at = at + request.service_seconds
        return Served(
            number=request.number,
            model=model.name,
            at=request.at,
            started=at,
            ended=end_at,
            swapped=swapped,
        )

    def _load(self, model: TraceModel, at: float) -> None:
        begin = at
        if self._model is not None:
            begin = at + self._model.stop_seconds + self._release_seconds
            self._held(SERVING, self._ready_at, at)
            self._held(LEAVING, at, begin)
            self.swaps.append(begin)
        self._model, self._ready_at = model, begin + model.load_seconds
        self._held(LOADING, begin, self._ready_at)
        self.loads += 1

    def _held(self, step: str, begin: float, end: float) -> None:
        if self._model is not None:
            self.spans.append(
                Span(model=self._model.name, step=step, begin=begin, end=end, memory_mb=self._model.memory_mb)
            )

    def close(self) -> None:
        """End the span of the Model that is loaded."""
        self._held(SERVING, self._ready_at, max([self._ready_at, *self._ends]))


def first_come(trace: Trace, requests: Sequence[Request], policy: str) -> Outcome:
    """Return what happens to the requests in the order of their arrival."""
    slot = _Slot(trace.card.release_seconds)
    answers = tuple(slot.serve(trace.model(request.model), request) for request in requests)
    slot.close()
    return Outcome(
        policy=policy, served=answers, spans=tuple(slot.spans), swaps=tuple(slot.swaps), loads=slot.loads
    )
