"""What the log says of refused requests, and that clients cannot fill it."""

import logging

import pytest

from flexinfer.proxy import errors, refusal_log
from flexinfer.proxy.refusal_log import LINE_SECONDS, RefusalLog, Refused
from tests.builders import NOW, a_model
from tests.unit.proxy.test_http import KEY, a_proxy

PATH = "/v1/chat/completions"
FULL = errors.queue_full(a_model(), "2 requests")


@pytest.fixture(autouse=True)
def everything_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    """As in the proxy's process."""
    caplog.set_level(logging.INFO, refusal_log.__name__)


def a_refusal(model: str = "default/llama", path: str = PATH) -> Refused:
    """Return a refused request."""
    return Refused("POST", path, model, 1.25)


class Clock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> float:
        """Return the time."""
        return self.now


def test_a_refusal_says_who_was_asked_for_what_why_not_and_after_how_long(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A 5xx is a warning."""
    RefusalLog(Clock()).record(a_refusal(), FULL)
    [record] = caplog.records
    assert record.levelno == logging.WARNING
    assert record.getMessage() == (
        "POST /v1/chat/completions refused with 503 queue_full after 1.2s, model default/llama: "
        "request queue of model llama is full (2 requests); retry in 5s"
    )


def test_a_client_that_hammers_makes_one_line_in_ten_seconds(caplog: pytest.LogCaptureFixture) -> None:
    """Those that are left out are counted; another Model or another cause is another line."""
    clock = Clock()
    log = RefusalLog(clock)
    for _ in range(500):
        log.record(a_refusal(), FULL)
    log.record(a_refusal("default/other"), FULL)
    log.record(
        a_refusal(), errors.model_failed(a_model(), a_model(conditions=("Accepted",)).status.conditions[0])
    )
    assert len(caplog.records) == 3
    clock.now += LINE_SECONDS
    log.record(a_refusal(), FULL)
    assert caplog.records[-1].getMessage().endswith("(499 more like this since the last line)")


def test_what_a_client_sent_is_not_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    """The name of a Model that does not exist may be a prompt, and a path has any length."""
    log = RefusalLog(Clock())
    log.record(a_refusal("", "/x" * 5000), errors.model_not_found("my secret prompt", []))
    [record] = caplog.records
    assert record.levelno == logging.INFO
    assert "secret" not in record.getMessage()
    assert "model unknown" in record.getMessage()
    assert len(record.getMessage()) < 300


def test_bytes_that_are_no_text_reach_the_log_escaped(caplog: pytest.LogCaptureFixture) -> None:
    """It is JSON in UTF-8, and a line that cannot be written would be lost."""
    RefusalLog(Clock()).record(a_refusal(path="/\udcff\n"), FULL)
    assert "/\\udcff" in caplog.records[0].getMessage()


def test_no_more_causes_are_remembered_than_the_limit(caplog: pytest.LogCaptureFixture) -> None:
    """A cluster may see any number of Models in its life."""
    log = RefusalLog(Clock())
    for number in range(1500):
        log.record(a_refusal(f"default/m{number}"), FULL)
    caplog.clear()
    log.record(a_refusal("default/m1499"), FULL)
    assert not caplog.records
    log.record(a_refusal("default/m0"), FULL)
    assert len(caplog.records) == 1


async def test_the_proxy_logs_what_it_refuses_without_the_key_or_the_prompt(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Also what it refuses before a Model is known."""
    async with a_proxy("127.0.0.1:1", cold_start_timeout="1s") as client:
        await client.post(f"{PATH}?api=hidden", json={"model": "llama", "prompt": "hidden"}, headers=KEY)
        await client.post(PATH, json={}, headers={"Authorization": "Bearer hidden"})
        await client.get("/healthz")
    lines = [record.getMessage() for record in caplog.records if record.name == refusal_log.__name__]
    assert "refused with 502 bad_gateway after" in lines[0]
    assert "model default/llama: the engine of model llama refused the connection" in lines[0]
    assert lines[1] == "POST /v1/chat/completions refused with 401 invalid_api_key after 0.0s, model unknown"
    assert len(lines) == 2
    assert "hidden" not in caplog.text
