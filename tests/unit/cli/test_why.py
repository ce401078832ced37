"""`flexinfer why`: the conditions in order, and the one thing that would help."""

import msgspec
import pytest

from flexinfer.api import conditions, reasons
from flexinfer.api.conditions import Condition
from flexinfer.api.membership import GroupMembership
from flexinfer.api.metadata import Metadata
from flexinfer.api.model import CacheStatus, Model, ModelSpec, ModelStatus
from flexinfer.api.moments import moment
from flexinfer.api.reasons import Reason
from flexinfer.api.sharedgroup import BLOCKED, INITIALIZED, SharedGroup
from flexinfer.cli.why import answer, next_step
from tests.builders import a_condition, a_group, a_holder


def a_model(*conditions: tuple[str, str, str, str], generation: int = 1) -> Model:
    """Return a Model with these conditions: type, status, reason, message."""
    made = tuple(
        Condition(type=kind, status=status, reason=reason, message=message, observed_generation=1)
        for kind, status, reason, message in conditions
    )
    return Model(
        metadata=Metadata(name="a", namespace="default", uid="u", generation=generation),
        spec=ModelSpec(backend="llamacpp", source="pvc://models/x.gguf"),
        status=ModelStatus(phase="Pending", conditions=made, endpoint="http://proxy/v1"),
    )


ACCEPTED = ("Accepted", "True", Reason.ACCEPTED, "")
PLACED = ("Placed", "True", Reason.PLACED, "on local")


def test_every_condition_has_a_line_in_the_order_of_the_conditions() -> None:
    """Also one that nobody has written yet."""
    lines = list(answer(a_model(PLACED, ACCEPTED)))
    assert [line.split()[1] for line in lines[1:-1]] == list(conditions.CONDITIONS)
    assert "not written yet by the prefetcher" in lines[3]


def test_a_missing_claim_comes_with_the_command_that_shows_the_claims() -> None:
    """The remedy names the namespace."""
    model = a_model(ACCEPTED, PLACED, ("Cached", "False", Reason.CLAIM_NOT_FOUND, "no claim x"))
    assert "kubectl get pvc -n default" in next_step(model)


def test_a_condition_that_is_missing_names_who_is_to_write_it() -> None:
    """A service that is away is what a user would look for next."""
    assert "placer" in next_step(a_model(ACCEPTED))


def test_a_ready_model_needs_nothing() -> None:
    """Its address is what one wants to know."""
    assert (
        next_step(a_model(("Ready", "True", Reason.READY, "")))
        == "nothing: the engine serves requests at http://proxy/v1"
    )


@pytest.mark.parametrize(
    "refused",
    [("Accepted", "False", Reason.UNKNOWN_BACKEND, "x"), ("Cached", "False", Reason.SOURCE_NOT_FOUND, "x")],
)
def test_a_ready_model_whose_newer_spec_is_refused_has_a_next_step(
    refused: tuple[str, str, str, str],
) -> None:
    """It answers with the spec before; that is not what its owner wants."""
    ready = ("Ready", "True", Reason.SERVING_OLDER_SPEC, "")
    step = next_step(a_model(refused, ready))
    assert step.startswith(str(reasons.remedy(refused[2], namespace="default", name="a")))
    assert step.endswith("; until then the engine serves requests at http://proxy/v1 with the spec before")


def test_a_model_that_is_scaled_to_zero_is_not_called_broken() -> None:
    """It is at rest: no mark of a failure, and nothing to do."""
    told_ready = ("Cached", "True", Reason.CACHED, "")
    wanted = ("Wanted", "False", Reason.IDLE, "nobody asked")
    assert "the next request starts it" in next_step(a_model(ACCEPTED, PLACED, told_ready, wanted))


def test_a_final_reason_comes_before_a_passing_one() -> None:
    """What will not change by waiting is what has to be mended."""
    waiting = ("Cached", "False", Reason.NOT_PLACED, "")
    failed = ("Ready", "False", Reason.LOADING_TIMEOUT, "600 s")
    assert "kubectl logs -n default a-0" in next_step(a_model(ACCEPTED, PLACED, waiting, failed))


def test_a_verdict_of_an_older_spec_is_marked() -> None:
    """What was said of another generation may not hold."""
    assert "(of an older spec)" in list(answer(a_model(ACCEPTED, generation=2)))[1]


@pytest.mark.parametrize("reason", sorted(reasons.FACTS))
def test_every_reason_has_a_next_step(reason: str) -> None:
    """Nobody is left without a word."""
    assert next_step(a_model(("Accepted", "False", reason, "")))


def test_the_first_line_is_derived_from_the_conditions() -> None:
    """`status.phase` is written later than the conditions; a new Model has none."""
    ready = ("Ready", "True", Reason.READY, "engine healthy")
    every = [(kind, "True", kind, "") for kind in conditions.CONDITIONS if kind != conditions.READY]
    assert next(iter(answer(a_model(*every, ready)))) == "default/a is Ready: engine healthy"
    assert next(iter(answer(a_model()))) == "default/a is new"


@pytest.mark.parametrize(
    ("group", "line"),
    [
        pytest.param(a_group(a_holder("b", turn=41)), "b holds turn 41 (Granted)", id="granted"),
        pytest.param(
            a_group(a_holder("b", turn=41, step="Releasing", reason="idle")),
            "b holds turn 41 (Releasing: idle)",
            id="releasing",
        ),
        pytest.param(a_group(turn=41), "no holder (last turn 41)", id="free"),
        pytest.param(a_group(initialized=False), "not initialised yet", id="not initialised"),
        pytest.param(
            a_group(
                a_holder("b", step="Stopped"),
                conditions=(
                    a_condition(INITIALIZED),
                    Condition(type=BLOCKED, status="True", reason="x", message="GPU-1 is missing"),
                ),
            ),
            "b holds turn 1 (Stopped); blocked: GPU-1 is missing",
            id="blocked",
        ),
    ],
)
def test_holder_turn_and_step_are_those_of_the_shared_group(group: SharedGroup, line: str) -> None:
    """Whatever the Model's own conditions show."""
    assert f"  Group card: {line}" in list(answer(a_model(ACCEPTED), group))


def test_a_download_is_drawn_as_a_bar_below_its_condition() -> None:
    """With what is left, as the prefetcher wrote it."""
    model = a_model(ACCEPTED, PLACED, ("Cached", "False", Reason.FETCHING, "downloading a/b"))
    cache = CacheStatus(
        bytes=37, total_bytes=100, bytes_per_second=25_000_000, progress="37% of 100 bytes, 2m left"
    )
    model = msgspec.structs.replace(model, status=msgspec.structs.replace(model.status, cache=cache))
    lines = list(answer(model))
    assert "    [#######.............] 37% of 100 bytes, 2m left, 25.0 MB/s" in lines


@pytest.mark.parametrize(
    ("at", "line"),
    [
        ("2026-11-24T20:00:40Z", "    expected to be granted by 2026-11-24T20:00:40Z, in 40s"),
        (
            "2026-11-24T19:59:00Z",
            "    expected to be granted by 2026-11-24T19:59:00Z, which has passed: its holders stay longer than expected",
        ),
        ("", None),
    ],
)
def test_a_queued_model_says_when_it_is_expected_to_be_granted(at: str, line: str | None) -> None:
    """As the arbiter wrote it; nothing where that is not known."""
    model = a_model(("Granted", "False", Reason.QUEUED, "queued: position 1 of 1 in group card"))
    shared = GroupMembership(group="card", state="Queued", position=1, expected_time=at)
    model = msgspec.structs.replace(model, status=msgspec.structs.replace(model.status, shared_group=shared))
    lines = list(answer(model, now=float(moment("2026-11-24T20:00:00Z") or 0)))
    assert [text for text in lines if "expected to be" in text] == ([line] if line else [])
