"""`flexinfer bench`: what is timed, on a clock of its own, and when the result is kept."""

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from datetime import UTC, datetime
from typing import Any, TypeVar, cast

import msgspec
import pytest

from flexinfer.api.kinds import Kind
from flexinfer.api.model import MetricsStatus, Model
from flexinfer.cli.bench import Sample, body, keep, lines, metrics_of, sample
from flexinfer.cli.errors import CommandError
from flexinfer.runtime.kubernetes.api import ConflictError, ForbiddenError, NotFoundError
from tests.builders import a_model

T = TypeVar("T")
NOW = datetime(2026, 11, 29, 10, 0, tzinfo=UTC)
METRICS = MetricsStatus(
    tokens_per_second=40.0, time_to_first_token_ms=120, measured_at="t", engine="llamacpp"
)


def text(content: str, name: str = "content") -> dict[str, Any]:
    """Return an event that brings some of the answer."""
    return {"choices": [{"delta": {name: content}}]}


def timed(events: Sequence[tuple[float, dict[str, Any]]]) -> Sample:
    """Return the sample of events, each at its second after the request."""
    now = 0.0

    async def arrive() -> AsyncIterator[dict[str, Any]]:
        nonlocal now
        for when, event in events:
            now = when
            yield event

    return asyncio.run(sample(arrive(), lambda: now))


def test_the_first_token_is_the_first_event_with_text() -> None:
    """An event with the role alone is none."""
    role = {"choices": [{"delta": {"role": "assistant", "content": ""}}]}
    one = timed([(0.1, role), (0.5, text("a")), (1.0, text("b")), (1.5, text("c"))])
    assert (one.first, one.rest, one.tokens) == (0.5, 1.0, 3)
    assert one.per_second == 2.0


def test_tokens_are_those_that_the_engine_counts() -> None:
    """An event may bring several; the count comes with the last event, without a choice."""
    usage = {"choices": [], "usage": {"completion_tokens": 9}, "system_fingerprint": "b6900"}
    one = timed([(1.0, text("a b c")), (3.0, text("d e f")), (3.1, usage)])
    assert (one.tokens, one.per_second, one.fingerprint) == (9, 4.0, "b6900")


def test_a_version_that_a_build_does_not_know_is_left_out() -> None:
    """The wheel of llama.cpp calls itself b0-unknown."""
    assert (
        timed([(1.0, {**text("a"), "system_fingerprint": "b0-unknown"}), (2.0, text("b"))]).fingerprint == ""
    )


@pytest.mark.parametrize("name", ["reasoning_content", "reasoning"])
def test_thinking_is_generated_text_too(name: str) -> None:
    """What a model thinks takes the same time."""
    assert timed([(0.2, text("hm", name)), (0.4, text("yes"))]).first == 0.2


@pytest.mark.parametrize(
    "event", [{}, [], {"choices": [{}]}, {"choices": None}, {"choices": [{"delta": None}]}]
)
def test_an_event_of_another_form_counts_for_nothing(event: Any) -> None:
    """Engines send what they like between the parts of an answer."""
    assert timed([(0.1, event), (0.2, text("a"))]).tokens == 1


def test_no_two_prompts_begin_alike() -> None:
    """An engine would answer the second from its prompt cache."""
    prompts = [body(a_model(), number, 8)["messages"][0]["content"] for number in range(12)]
    assert len({prompt.partition(" ")[0] for prompt in prompts}) == 12


def test_the_result_is_the_median() -> None:
    """One request that a busy machine held up does not count for all."""
    samples = [Sample(0.1, 1.0, 41, "b1"), Sample(0.2, 1.0, 21, "b1"), Sample(9.0, 1.0, 2, "b1")]
    metrics = metrics_of(a_model(), samples, NOW)
    assert metrics == MetricsStatus(
        tokens_per_second=20.0,
        time_to_first_token_ms=200,
        measured_at="2026-11-29T10:00:00Z",
        engine="llamacpp b1",
    )
    assert "llamacpp b1, 3 requests one after the other, " in lines(a_model(), samples, metrics)[0]
    assert "llamacpp b1, 1 request, " in lines(a_model(), samples[:1], metrics)[0]
    assert "20.0  (1.0 to 40.0)" in lines(a_model(), samples, metrics)[1]
    assert "200 ms  (100 to 9000)" in lines(a_model(), samples, metrics)[2]


class Api:
    """An API server that holds one Model and answers writes as the test says; notes what it took."""

    def __init__(self, held: Iterator[Model | None], refusals: Iterator[Exception]) -> None:
        self._held, self._refusals = held, refusals
        self.taken: list[Any] = []

    async def get(self, kind: Kind[T], namespace: str, name: str) -> T:
        """Return the Model."""
        model = next(self._held)
        if model is None:
            raise NotFoundError(f"{namespace}/{name}")
        return msgspec.convert(msgspec.to_builtins(model), kind.type)

    async def apply(
        self, kind: Kind[T], namespace: str, body: Any, *, manager: str, subresource: str = ""
    ) -> T:
        """Take a status, or refuse it."""
        refusal = next(self._refusals, None)
        if refusal is not None:
            raise refusal
        self.taken.append((manager, subresource, body))
        return msgspec.convert({"metadata": {"name": "a"}, "spec": {"backend": "", "source": ""}}, kind.type)


def kept(held: Sequence[Model | None], *refusals: Exception) -> list[Any]:
    """Return what an API server took of the metrics of the Model `llama` with uid `u`."""
    api = Api(iter(held), iter(refusals))
    asyncio.run(keep(cast(Any, api), a_model(uid="u", version=7), METRICS))
    return api.taken


def test_the_result_is_written_by_a_manager_of_its_own_at_the_version_that_was_read() -> None:
    """So that it never lands on a later Model of the same name."""
    ((manager, subresource, patch),) = kept([a_model(uid="u", version=9)])
    assert (manager, subresource) == ("flexinfer-bench", "status")
    assert patch["metadata"]["resourceVersion"] == "9"
    assert patch["status"] == {
        "metrics": {
            "tokensPerSecond": 40.0,
            "timeToFirstTokenMs": 120,
            "measuredAt": "t",
            "engine": "llamacpp",
        }
    }


def test_a_model_that_changed_meanwhile_is_read_again() -> None:
    """Its components write to it all the time."""
    ((_, _, patch),) = kept([a_model(uid="u", version=9), a_model(uid="u", version=10)], ConflictError("x"))
    assert patch["metadata"]["resourceVersion"] == "10"


@pytest.mark.parametrize("held", [None, a_model(uid="another", version=9)])
def test_a_model_that_was_deleted_meanwhile_keeps_nothing(held: Model | None) -> None:
    """Nor does another one of its name."""
    with pytest.raises(CommandError, match="was deleted while it was measured"):
        kept([held])


def test_a_user_without_the_right_learns_which_role_has_it() -> None:
    """The result has been printed already."""
    refusal = ForbiddenError("models.ai.flexinfer is forbidden", 403)
    with pytest.raises(CommandError, match="bind the ClusterRole flexinfer-bench"):
        kept([a_model(uid="u", version=9)], refusal)


def test_a_model_that_never_stands_still_ends_the_attempts() -> None:
    """Nothing is tried without an end."""
    models = [a_model(uid="u", version=number) for number in range(20)]
    with pytest.raises(CommandError, match="changed 5 times in a row"):
        kept(models, *[ConflictError("x")] * 20)
