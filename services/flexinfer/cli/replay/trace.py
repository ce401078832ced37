"""A trace: a card, the Models that share it, and when requests for them arrive. Pure.

The file format is documented in docs/reference/traces.md.
"""

import math
from collections.abc import Callable, Iterator
from typing import Annotated, TypeAlias

import msgspec

from flexinfer.api.durations import seconds
from flexinfer.api.sharedgroup import SharedGroupSpec

Time: TypeAlias = Annotated[float, msgspec.Meta(ge=0)] | str
"""Seconds, or a duration such as `8h30m`."""
Positive: TypeAlias = Annotated[float, msgspec.Meta(gt=0)]
Chance: TypeAlias = Callable[[str], Callable[[], float]]
"""Returns for a seed what draws numbers from 0 to 1, always the same ones."""
GROUP = "card"


class TraceError(Exception):
    """A trace that cannot be replayed, and why."""


class _Part(msgspec.Struct, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True):
    """A part of the file: fields that it does not know are refused."""


class Card(_Part, frozen=True, kw_only=True):
    """The card; memory of an engine is back `release_seconds` after its process has ended."""

    memory_mb: Annotated[int, msgspec.Meta(gt=0)] = msgspec.field(name="memoryMB")
    release_seconds: Annotated[float, msgspec.Meta(ge=0)] = 1.0


class TraceGroup(_Part, frozen=True, kw_only=True):
    """The spec of the SharedGroup."""

    mode: str = SharedGroupSpec(group=GROUP).mode
    min_stay: str = SharedGroupSpec(group=GROUP).min_stay
    max_wait: str = SharedGroupSpec(group=GROUP).max_wait
    reserve_mb: Annotated[int, msgspec.Meta(ge=0)] = msgspec.field(
        name="reserveMB", default=SharedGroupSpec(group=GROUP).reserve_mb
    )


class TraceModel(_Part, frozen=True, kw_only=True):
    """A Model: what it takes, and how long its engine takes to start, to stop, and to answer a request.

    `parallel` is how many requests its engine answers at once; the others wait.
    """

    name: Annotated[str, msgspec.Meta(min_length=1)]
    memory_mb: Annotated[int, msgspec.Meta(gt=0)] = msgspec.field(name="memoryMB")
    priority: int = 100
    load_seconds: Positive = 10.0
    service_seconds: Positive = 5.0
    stop_seconds: Annotated[float, msgspec.Meta(ge=0)] = 1.0
    parallel: Annotated[int, msgspec.Meta(gt=0)] = 1
    idle_timeout: str = "5m"
    always_on: bool = False
    exclusive: bool = False


class Arrivals(_Part, frozen=True, kw_only=True):
    """One request at a time `at`, or requests drawn at a rate `per_hour` between two times."""

    model: str
    at: Time | None = None
    start: Time = msgspec.field(name="from", default=0.0)
    until: Time | None = None
    per_hour: Positive | None = None
    service_seconds: Positive | None = None


class Trace(_Part, frozen=True, kw_only=True):
    """A card, its Models and the arrivals; `seed` is what the drawn ones are drawn from."""

    card: Card
    models: tuple[TraceModel, ...]
    group: TraceGroup = TraceGroup()
    seed: int = 0
    arrivals: tuple[Arrivals, ...] = ()

    @property
    def budget_mb(self) -> int:
        """What the Models may hold together, in MiB."""
        return self.card.memory_mb - self.group.reserve_mb

    def model(self, name: str) -> TraceModel:
        """Return the Model of a name. Raises KeyError if there is none."""
        return {model.name: model for model in self.models}[name]


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """One request; times in seconds from the beginning of the trace."""

    number: int
    model: str
    at: float
    service_seconds: float


def requests_of(trace: Trace, chance: Chance) -> tuple[Request, ...]:
    """Return the requests of a trace in the order of their arrival. Raises TraceError if it cannot be replayed."""
    _check(trace)
    arrivals = sorted(
        (at, place, one.model, one.service_seconds or trace.model(one.model).service_seconds)
        for place, one in enumerate(trace.arrivals)
        for at in _times(one, place, trace.seed, chance)
    )
    if not arrivals:
        raise TraceError("it has no arrivals: name at least one under `arrivals`")
    return tuple(
        Request(number=number, model=model, at=at, service_seconds=service)
        for number, (at, _, model, service) in enumerate(arrivals)
    )


def _check(trace: Trace) -> None:
    """Raise TraceError for Models that the card cannot serve, and for arrivals of a Model that is not listed."""
    names = [model.name for model in trace.models]
    if len(set(names)) < len(names):
        raise TraceError(f"two Models have the name {max(names, key=names.count)}: give each its own")
    for model in trace.models:
        if model.memory_mb > trace.budget_mb:
            needs = (
                f"{model.name} needs {model.memory_mb} MiB, and the card has {trace.budget_mb} MiB to give"
            )
            raise TraceError(f"{needs}: lower its memoryMB or group.reserveMB, or raise card.memoryMB")
    unknown = sorted({one.model for one in trace.arrivals} - set(names))
    if unknown:
        raise TraceError(f"arrivals name {', '.join(unknown)}, which is not under `models`: add it there")
    for text in (trace.group.min_stay, trace.group.max_wait, *(m.idle_timeout for m in trace.models)):
        seconds_of(text)


def _times(one: Arrivals, place: int, seed: int, chance: Chance) -> Iterator[float]:
    """Yield when the requests of an entry arrive. Raises TraceError if it says neither when nor how many."""
    if one.at is not None:
        yield seconds_of(one.at)
        return
    if one.per_hour is None or one.until is None:
        raise TraceError(f"arrivals of {one.model} need `at`, or `perHour` and `until`")
    draw, end = chance(f"{seed}/{place}"), seconds_of(one.until)
    at = seconds_of(one.start) + _gap(draw(), one.per_hour)
    while at < end:
        yield at
        at += _gap(draw(), one.per_hour)


def _gap(number: float, per_hour: float) -> float:
    """Return the seconds to the next request: exponential, as those of many independent users are."""
    return -math.log(1.0 - number) * 3600.0 / per_hour


def seconds_of(time: float | str) -> float:
    """Return a time of the file in seconds. Raises TraceError if it is none."""
    try:
        return seconds(time) if isinstance(time, str) else float(time)
    except ValueError as error:
        raise TraceError(str(error)) from error
