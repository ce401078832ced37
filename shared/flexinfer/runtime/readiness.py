"""Readiness of a component, and what takes it away.

Ready means that the replay of the state stream is complete, or that the replica is a standby; and that the component,
if it decides, has not been blind for 30 s: without NATS, without a matching watermark, without the API server.
"""

from collections.abc import Callable
from typing import Protocol

from flexinfer.api.numbers import counted
from flexinfer.runtime.metrics import Source, no_samples

BLIND_SECONDS = 30.0
"""How long a component that decides may lack NATS, a matching watermark or the API server and count as ready."""


_FOLLOWING = ("watermark", "storage")
"""Causes that follow from `nats`, and are not named beside it."""


class ProblemReporter(Protocol):
    """Takes what keeps a component from seeing or writing."""

    def __call__(self, cause: str, problem: str | None, since: float | None = None) -> None:
        """Note a problem of one cause, from now on or since some monotonic time; None: it is over."""
        ...


def no_reporter(cause: str, problem: str | None, since: float | None = None) -> None:
    """Take a problem and do nothing."""


class Readiness:
    """Whether one component is ready, and if not, why.

    A problem that lasts longer than `timeout` seconds makes it not ready; None: no problem does, as for a proxy,
    which continues answering without NATS and without the API server.
    """

    def __init__(self, name: str, clock: Callable[[], float], timeout: float | None = BLIND_SECONDS) -> None:
        self.name = name
        self._clock, self._timeout = clock, timeout
        self._started = False
        self._problems: dict[str, tuple[float, str]] = {}
        self.errors, self._failed_key = 0, ""
        """How many unexpected errors there were since the start, and on which key the last one."""
        self.source: Source = no_samples
        """What returns the metrics that this component alone has."""

    def expose(self, source: Source) -> None:
        """Have /metrics answer what `source` returns too."""
        self.source = source

    def set_ready(self, ready: bool) -> None:  # noqa: FBT001 -- the value itself
        """Set whether the component has seen everything once."""
        self._started = ready

    def report_problem(self, cause: str, problem: str | None, since: float | None = None) -> None:
        """Note what keeps the component from seeing or writing, of one cause; None: it is over.

        It counts from when it was first reported, or from `since`. Its text may change.
        """
        if problem is None:
            self._problems.pop(cause, None)
            return
        start = self._clock() if since is None else since
        self._problems[cause] = (min(start, self._problems.get(cause, (start,))[0]), problem)

    def report_failure(self, key: str, _error: Exception) -> None:
        """Count an unexpected error, which cost a key its decision or effect; the log has its traceback."""
        self.errors, self._failed_key = self.errors + 1, key

    def problem_seconds(self, cause: str) -> float:
        """Return for how long there has been a problem of one cause; 0 without one."""
        return self._clock() - self._problems[cause][0] if cause in self._problems else 0.0

    def failures(self) -> str:
        """Return how many unexpected errors there were since the start; empty if none."""
        if not self.errors:
            return ""
        return f"{counted(self.errors, 'unexpected error')}, the last on {self._failed_key}: see the log"

    def reason(self) -> str:
        """Return why it is not ready; empty if it is."""
        now = self._clock()
        lasting = sorted(
            (since, problem)
            for cause, (since, problem) in self._problems.items()
            if not (cause in _FOLLOWING and "nats" in self._problems)
            if not self._started or (self._timeout is not None and now - since >= self._timeout)
        )
        if lasting:
            return "; ".join(f"{problem} (for {now - since:.0f}s)" for since, problem in lasting)
        return "" if self._started else "the replay of the state stream is not complete"
