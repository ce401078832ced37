"""Every request is sent to an engine of its Model, or answered with an error, by its deadline; none is dropped."""

from collections.abc import Iterator
from typing import Any

import msgspec

from flexinfer.api.durations import seconds
from flexinfer.api.model import Model
from flexinfer.proxy.gateway import RECONNECT_SECONDS
from tests.simulation.engine import Engine
from tests.simulation.laws.base import Law

SERVED = "served"
_SLACK = RECONNECT_SECONDS + 0.01
"""If a connection is refused just before the deadline, the gateway waits once more for a new address."""


class Request(msgspec.Struct):
    """A request for a Model's uid, which must be sent or answered by its deadline."""

    uid: str
    key: str
    proxy: str
    deadline: float
    sent: bool = False
    late: bool = False


class Requests(Law):
    """Judges each request of each proxy; numbers are unique."""

    def __init__(self, checker: Any) -> None:
        super().__init__(checker)
        self._open: dict[str, Request] = {}
        self.last: dict[str, tuple[float, str]] = {}
        """uid -> when a request for it arrived or ended, and at which proxy."""

    @property
    def open(self) -> int:
        """The number of requests without a response."""
        return len(self._open)

    def of(self, uid: str) -> Iterator[Request]:
        """Yield the requests for a Model that have no response."""
        return (request for request in self._open.values() if request.uid == uid)

    def received(self, number: str, model: Model, proxy: str) -> None:
        """Note a request for a Model."""
        budget = seconds(model.spec.serverless.cold_start_timeout)
        self._open[number] = Request(model.uid, model.key, proxy, self.now + budget)
        self.last[model.uid] = (self.now, proxy)

    def sent(self, number: str, engine: Engine) -> None:
        """Judge where and when a request is sent."""
        request = self._open[number]
        if engine.holder[0] != request.uid:
            self.report(f"a request for {request.uid} was sent to an engine of {engine.holder[0]}")
        self._on_time(request, "sent")
        request.sent = True

    def ended(self, number: str, outcome: str) -> None:
        """Judge the response to a request."""
        self.checker.note(f"request {number} {outcome}")
        request = self._open.pop(number, None)
        if request is None:
            return  # it was not routed to a Model
        self.last[request.uid] = (self.now, request.proxy)
        if not request.sent:
            self._on_time(request, f"answered with {outcome}")
        if outcome == SERVED and not request.sent:
            self.report(f"a request for {request.uid} was served without an engine")

    def _on_time(self, request: Request, what: str) -> None:
        late = self.now - request.deadline
        if late > _SLACK and not request.late:
            request.late = True
            self.report(f"a request for {request.uid} was {what} {late:.1f} s after its deadline")

    def passes(self) -> None:
        """Judge the requests that have no response yet."""
        for request in self._open.values():
            if not request.sent:
                self._on_time(request, "not answered")

    def ends_history(self) -> None:
        """Judge what was never answered."""
        if self._open:
            self.report(f"{len(self._open)} requests were dropped: they got no response")
