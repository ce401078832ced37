"""Why a Model is in its state, as one value: what `flexinfer why -o json` prints, and from which its lines are made."""

from collections.abc import Iterator, Sequence

from flexinfer.api import conditions
from flexinfer.api.base import Resource
from flexinfer.api.conditions import Condition, one_line
from flexinfer.api.model import Model
from flexinfer.api.moments import moment
from flexinfer.api.phase import cause_of, phase_of
from flexinfer.api.services import OWNERS
from flexinfer.api.sharedgroup import SharedGroup
from flexinfer.cli.next_step import AT_REST, NextStep, next_step
from flexinfer.cli.sentences import bar, held, summary
from localkube.apiserver.human_duration import format_duration

TRUE_MARK, FALSE_MARK, REST_MARK, UNKNOWN_MARK = "\N{CHECK MARK}", "\N{BALLOT X}", "-", "?"


class Answer(Resource, frozen=True, kw_only=True, omit_defaults=False):
    """One condition; `status` is that of the present spec: Unknown without a reason until its owner has written it.

    `since` is when the status last changed, RFC 3339; `age_seconds` how long ago that was. None where that is not known.
    `at_rest`: it is False because the Model is scaled to zero, or about to be, which is no fault. `current`: it is of the present spec.
    """

    type: str
    owner: str
    status: str = conditions.UNKNOWN
    reason: str = ""
    message: str = ""
    since: str | None = None
    age_seconds: int | None = None
    at_rest: bool = False
    current: bool = False


class HolderOfGroup(Resource, frozen=True, kw_only=True, omit_defaults=False):
    """One that holds devices of the Model's shared group: `kind` is Model or GPULease."""

    kind: str
    name: str
    turn: int
    step: str


class GroupAnswer(Resource, frozen=True, kw_only=True, omit_defaults=False):
    """The Model's shared group."""

    name: str
    message: str
    holders: tuple[HolderOfGroup, ...] = ()


class Explanation(Resource, frozen=True, kw_only=True, omit_defaults=False):
    """Why a Model is in its state; `reason` and `message` are of what holds it up, `download` is how far one is that runs.

    `expected_time`: when a queued Model is expected to be granted its turn, RFC 3339; None where that is not known.
    """

    namespace: str
    name: str
    generation: int
    phase: str
    reason: str
    message: str
    deleting: bool
    endpoint: str
    conditions: tuple[Answer, ...]
    group: GroupAnswer | None
    download: str | None
    expected_time: str | None
    next: NextStep


def explanation(
    model: Model, group: SharedGroup | None = None, members: Sequence[Model] = (), now: float | None = None
) -> Explanation:
    """Return why a Model is in its state; `now` are seconds since 1970, None if no age is to be told."""
    current, generation = model.status.conditions, model.metadata.generation
    cause = cause_of(current, generation)
    return Explanation(
        namespace=model.metadata.namespace,
        name=model.metadata.name,
        generation=generation,
        phase=phase_of(current, generation),
        reason=cause.reason,
        message=one_line(cause.message),
        deleting=model.deleting,
        endpoint=model.status.endpoint,
        conditions=tuple(_answer(kind, model, now) for kind in conditions.CONDITIONS),
        group=_group(group),
        download=_download(model),
        expected_time=_expected_time(model),
        next=next_step(model, group, members),
    )


def _answer(kind: str, model: Model, now: float | None) -> Answer:
    condition = model.condition(kind)
    if condition is None:
        return Answer(type=kind, owner=OWNERS[kind])
    since = moment(condition.last_transition_time)
    return Answer(
        type=kind,
        owner=OWNERS[kind],
        status=condition.status,
        reason=condition.reason,
        message=one_line(condition.message),
        since=condition.last_transition_time if since is not None else None,
        age_seconds=max(0, int(now - since)) if since is not None and now is not None else None,
        at_rest=_at_rest(condition),
        current=condition.observed_generation == model.metadata.generation,
    )


def _at_rest(condition: Condition) -> bool:
    return condition.status == conditions.FALSE and condition.reason in AT_REST


def _group(group: SharedGroup | None) -> GroupAnswer | None:
    if group is None:
        return None
    holders = (
        HolderOfGroup(
            kind="GPULease" if holder.lease else "Model",
            name=holder.lease or holder.model,
            turn=holder.turn,
            step=holder.step,
        )
        for holder in group.status.holders
    )
    return GroupAnswer(name=group.name, message=one_line(held(group)), holders=tuple(holders))


def _download(model: Model) -> str | None:
    """Return how far a download is, if one runs."""
    cache = model.status.cache
    if model.is_true(conditions.CACHED) or cache is None or not cache.bytes < cache.total_bytes:
        return None
    rate = f", {cache.bytes_per_second / 1e6:,.1f} MB/s" if cache.bytes_per_second else ""
    return f"{bar(cache.bytes, cache.total_bytes)} {one_line(cache.progress)}{rate}"


def _expected_time(model: Model) -> str | None:
    membership, granted = model.status.shared_group, model.condition(conditions.GRANTED)
    if membership is None or granted is None or granted.true:
        return None
    return membership.expected_time if moment(membership.expected_time) is not None else None


def _expected(expected_time: str, now: float | None) -> str:
    at = moment(expected_time)
    line = f"expected to be granted by {expected_time}"
    if at is None or now is None:
        return line
    return (
        f"{line}, in {_span(at - now)}"
        if at > now
        else f"{line}, which has passed: its holders stay longer than expected"
    )


def _span(seconds: float) -> str:
    """Return a time to wait as people say it: 40s, 59m, 1h59m. kubectl's form, of ages, is in minutes up to 3 hours."""
    minutes = int(seconds) // 60
    if minutes < 60:  # noqa: PLR2004 -- minutes of an hour
        return f"{minutes}m" if minutes >= 2 else f"{int(seconds)}s"  # noqa: PLR2004
    return f"{minutes // 60}h{minutes % 60}m"


def answer(
    model: Model, group: SharedGroup | None = None, members: Sequence[Model] = (), now: float | None = None
) -> Iterator[str]:
    """Yield the same for people, line by line."""
    result = explanation(model, group, members, now)
    yield f"{model.key} is {one_line(summary(model))}"
    reasons = max(len(one.reason) for one in result.conditions)
    ages = max(len(_age(one)) for one in result.conditions)
    for one in result.conditions:
        yield f"  {_line(one, reasons, ages)}"
        if one.type == conditions.CACHED and result.download is not None:
            yield f"    {result.download}"
        if one.type == conditions.GRANTED and result.expected_time is not None:
            yield f"    {_expected(result.expected_time, now)}"
    if result.group is not None:
        yield f"  Group {result.group.name}: {result.group.message}"
    yield f"Next: {result.next.message}"


def _line(one: Answer, reasons: int, ages: int) -> str:
    if not one.reason:
        return f"{UNKNOWN_MARK} {one.type:<9} not written yet by the {one.owner}"
    old = "" if one.current else " (of an older spec)"
    age = f"  {_age(one):<{ages}}" if ages else ""
    return f"{_mark(one)} {one.type:<9} {one.reason:<{reasons}}{age}  {one.message}{old}".rstrip()


def _age(one: Answer) -> str:
    """Return since when the status is what it is, as kubectl prints ages; the reason may be newer."""
    return f"{one.status} for {format_duration(one.age_seconds)}" if one.age_seconds is not None else ""


def _mark(one: Answer) -> str:
    if one.status == conditions.TRUE:
        return TRUE_MARK
    if one.status != conditions.FALSE:
        return UNKNOWN_MARK
    return REST_MARK if one.at_rest else FALSE_MARK
