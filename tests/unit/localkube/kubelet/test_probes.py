"""Probes: how answers become results, and when probes run."""

import asyncio

import pytest

from localkube.kubelet.probes import ProbeResults, Timing, follow, timing
from tests.patience import patient


@pytest.mark.parametrize(
    ("answers", "results"),
    [
        pytest.param([False, False, True], [None, None, True], id="too few failures"),
        pytest.param([True, False, False, False], [True, True, True, False], id="enough failures in a row"),
        pytest.param(
            [False, False, True, False, False], [None, None, True, True, True], id="a success breaks the row"
        ),
    ],
)
def test_a_verdict_needs_enough_answers_in_a_row(answers: list[bool], results: list[bool | None]) -> None:
    """Three failures or one success, by default."""
    tally = ProbeResults(Timing())
    seen = []
    for good in answers:
        tally.count(good=good)
        seen.append(tally.healthy)
    assert seen == results


def test_absent_and_zero_fields_get_kubernetes_defaults() -> None:
    """A zero period would be a busy loop."""
    assert timing({"httpGet": {}, "periodSeconds": 0, "failureThreshold": 2}) == Timing(failure_threshold=2)


async def test_failures_are_complained_of_and_the_verdict_ends_it() -> None:
    """Every failure is logged; the caller gets the result alone."""
    answers = iter(["no", "no", ""])
    complaints: list[str] = []
    results: list[bool] = []

    async def ask() -> str:
        return next(answers)

    async def judge(good: bool) -> bool:  # noqa: FBT001
        results.append(good)
        return good

    async with asyncio.timeout(patient(5)):
        await follow({"periodSeconds": 0.001}, ask, judge, complaints.append)
    assert (complaints, results) == (["no", "no"], [True])


async def test_silence_beyond_the_timeout_is_a_failure() -> None:
    """It is given in seconds."""
    complaints: list[str] = []

    async def ask() -> str:
        return await asyncio.get_running_loop().create_future()  # type: ignore[no-any-return]

    async def judge(good: bool) -> bool:  # noqa: FBT001
        return not good

    async with asyncio.timeout(patient(5)):
        await follow({"timeoutSeconds": 0.001, "failureThreshold": 1}, ask, judge, complaints.append)
    assert complaints == ["no answer within 0.001s"]
