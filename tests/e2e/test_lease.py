"""A person takes memory of a card in the evening: the Model that streams finishes, then it leaves; given back, the next request loads it.

The engine is real llama.cpp, the card is simulated, and so is the game: a foreign process that the simulated card shows.
"""

import json
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import openai
import pytest

from flexinfer.api.moments import moment
from tests.e2e.test_shared_card import ONE_CARD, SECONDS, apply, ask, the_group, told, used
from tests.instance import Running, instance, until
from tests.patience import patient

pytestmark = pytest.mark.e2e
GAME_MB = 16_384
CHAT_MB = 12_288
DRAIN_SECONDS = 30.0


@pytest.fixture(scope="module")
def card(tmp_path_factory: pytest.TempPathFactory, api: str) -> Iterator[tuple[Running, Path]]:
    """Return an instance with one card, and the file that the card is simulated by."""
    if api != "local":
        pytest.skip("simulated GPUs need the local API")
    folder = tmp_path_factory.mktemp("instance")
    file = folder / "one-card.yaml"
    file.write_text(ONE_CARD.read_text())
    with instance(folder / "state", "--simulate-gpus", str(file)) as running:
        yield running, file


def lease(running: Running, name: str) -> dict[str, Any]:
    """Return the status of a lease."""
    status: dict[str, Any] = json.loads(running.kubectl("get", "gl", name, "-o", "json")).get("status", {})
    return status


def reason(running: Running, name: str) -> str:
    """Return the reason of its condition."""
    return next((c["reason"] for c in lease(running, name).get("conditions", ())), "")


def streamed(running: Running, name: str, tokens: int, begun: threading.Event) -> tuple[str, int]:
    """Stream an answer; return why it ended, `cut` if the engine was stopped meanwhile, and when the engine sent the last of it, in seconds since 1970."""
    ended, sent_at = "", 0
    with running.client() as client:
        stream = client.chat.completions.create(
            model=name,
            messages=[{"role": "user", "content": "Count to a hundred."}],
            max_tokens=tokens,
            stream=True,
        )
        try:
            for chunk in stream:
                begun.set()
                sent_at = chunk.created or sent_at
                ended = (chunk.choices[0].finish_reason or ended) if chunk.choices else ended
        except openai.APIError:
            ended = "cut"
    return ended, sent_at


def taken_while_it_streams(running: Running) -> str:
    """Take the lease while the Model streams; return what the command prints. It was granted after the stream, or the drain deadline."""
    begun, taken_at = threading.Event(), time.time()
    with ThreadPoolExecutor() as pool:
        answer = pool.submit(streamed, running, "chat", 60, begun)
        assert begun.wait(patient(SECONDS))
        taken = running.flexinfer("lease", "take", "game", "--group", "card", "--memory", "16Gi", "--wait")
        finished, sent_at = answer.result()
    assert finished in ("length", "stop") or time.time() - taken_at > DRAIN_SECONDS
    granted_at = moment(lease(running, "game")["since"])
    assert granted_at is not None
    assert granted_at >= sent_at
    return taken.stdout


def test_a_lease_waits_for_the_stream_and_is_given_back(card: tuple[Running, Path], tmp_path: Path) -> None:
    """Granted only once the stream has ended and the memory is back; the game on the card blocks nothing; then the Model loads again."""
    running, file = card
    apply(running, tmp_path, "chat", CHAT_MB)
    running.kubectl("wait", "--for=condition=Ready", "mdl/chat", f"--timeout={patient(SECONDS):g}s")
    until(lambda: used(running) == CHAT_MB, SECONDS, "the Model uses the card")

    printed = taken_while_it_streams(running)
    assert "chat" in printed
    assert "Granted: turn" in printed
    [holder] = the_group(running)["holders"]
    assert (holder["lease"], holder["step"]) == ("game", "Granted")
    until(lambda: used(running) == 0, SECONDS, "the card shows that the memory is free")
    swap = ["Granted", "Releasing", "Stopped", "Freed", "Granted"]
    assert told(running, len(swap), "chat", "game") == swap

    file.write_text(f"{ONE_CARD.read_text()}\nforeign:\n- {{node: local, memoryMB: {GAME_MB}, name: game}}\n")
    until(lambda: used(running) == GAME_MB, SECONDS, "the game runs")
    with ThreadPoolExecutor() as pool:
        asked = pool.submit(ask, running, "chat", 4)
        until(lambda: "lease game" in running.flexinfer("why", "chat").stdout, SECONDS, "why names the lease")
        assert "lease game" in running.kubectl("get", "sgrp", "card")
        file.write_text(ONE_CARD.read_text())
        until(lambda: used(running) == 0, SECONDS, "the game has ended")
        running.flexinfer("lease", "give", "game")
        assert asked.result() in ("length", "stop")
    assert [holder.get("model") for holder in the_group(running)["holders"]] == ["chat"]


def test_a_lease_that_is_over_waits_for_its_process(card: tuple[Running, Path], tmp_path: Path) -> None:
    """It is Expired, the group is blocked by the process that it names, and the next Model gets the memory once that has ended."""
    running, file = card
    running.flexinfer("lease", "take", "short", "--group", "card", "--wait")
    file.write_text(f"{ONE_CARD.read_text()}\nforeign:\n- {{node: local, memoryMB: {GAME_MB}, name: game}}\n")
    until(lambda: used(running) == GAME_MB, SECONDS, "the game runs")
    running.kubectl("patch", "gl", "short", "--type=merge", "-p", '{"spec": {"duration": "1s"}}')
    until(lambda: reason(running, "short") == "Expired", SECONDS, "the lease is over")

    def blocked() -> str:
        conditions = the_group(running)["conditions"]
        return "; ".join(c["message"] for c in conditions if c["type"] == "Blocked")

    until(lambda: "game" in blocked(), SECONDS, "the group names the process")
    file.write_text(ONE_CARD.read_text())
    until(
        lambda: not any("lease" in holder for holder in the_group(running).get("holders", ())),
        SECONDS,
        "the memory is given back",
    )
    assert blocked() == ""
    assert "Expired" in running.flexinfer("lease", "list").stdout
    assert ask(running, "chat", 4) in ("length", "stop")
