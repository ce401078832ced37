"""Two Models that share one simulated card, of which only one fits, served by stand-in engines; every component is a process of its own."""

import asyncio
import contextlib
import http.client
import json
import os
import signal
import stat
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from benchmarks.swap import objects
from flexinfer.api.sharedgroup import BLOCKED
from flexinfer.cli.services import HEALTHY, Row, rows
from flexinfer.local.instance import load
from flexinfer.local.simulation import files
from tests.instance import Running, instance, until
from tests.swaps import engine
from tests.swaps.card import Card
from tests.swaps.steps import Steps

NODE, MEMORY_MB, TOTAL_MB, RESERVE_MB = "local", 14_000, 24_576, 512
RELEASE_SECONDS = 0.5
MEMBERS = ("one", "two")
DEADLINE = 120.0
"""How long a release may take before its group counts as blocked: drain, grace period, and a minute. A swap has no other deadline."""
_ONE_CARD = f"""
nodes:
- name: {NODE}
  gpus:
  - {{profile: rtx-3090, memoryMB: {TOTAL_MB}, releaseDelay: {RELEASE_SECONDS * 1000:.0f}ms}}
"""
_PROBLEMS = (OSError, http.client.HTTPException)


class Stream:
    """A request whose answer is streamed, and how it ended: `whole`, `cut`, or the status of a refusal."""

    def __init__(self, group: "Group", model: str, words: int) -> None:
        self.first, self.outcome = threading.Event(), ""
        self._group, self._model, self._words = group, model, words
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def ended(self) -> bool:
        """Return whether it has ended."""
        return not self._thread.is_alive()

    def _read(self) -> None:
        self.outcome = "cut"
        with contextlib.suppress(*_PROBLEMS):
            self.outcome = self._group.ask(self._model, self._words, self.first)
        self.first.set()


class Group:
    """The group of a running instance."""

    def __init__(self, running: Running, loading: Path) -> None:
        self.running, self._instance = running, load(running.state)
        self.steps = Steps(running.state / "kubeconfig", loading)
        self.card = Card(files.devices(self._instance, NODE))
        exports = running.environment()
        self._url, self._key = urlsplit(exports["OPENAI_BASE_URL"]), exports["OPENAI_API_KEY"]

    def ask(self, model: str, words: int, first: threading.Event) -> str:
        """Ask a Model for some words; returns `whole`, `cut` or the status of a refusal. Raises OSError, HTTPException."""
        body = {
            "model": model,
            "stream": True,
            "max_tokens": words,
            "messages": [{"role": "user", "content": "Go."}],
        }
        headers = {"Content-Type": "application/json", "Authorization": f"Bearer {self._key}"}
        with contextlib.closing(http.client.HTTPConnection(self._url.netloc, timeout=DEADLINE)) as connection:
            connection.request("POST", f"{self._url.path}/chat/completions", json.dumps(body), headers)
            answer = connection.getresponse()
            if answer.status != http.HTTPStatus.OK:
                return f"{answer.status}: {answer.read().decode(errors='replace')[:200]}"
            lines = []
            for line in answer:
                lines.append(line)
                first.set()
            return "whole" if b"data: [DONE]\n" in lines else "cut"

    def serve(self, model: str) -> None:
        """Ask a Model again, as a client does, until it answers. Raises AssertionError after the deadline."""
        until(lambda: self._answers(model), DEADLINE, f"{model} answers: {self.explained(model)}")

    def _answers(self, model: str) -> bool:
        with contextlib.suppress(*_PROBLEMS):
            return self.ask(model, 1, threading.Event()) == "whole"
        return False

    def explained(self, model: str) -> str:
        """Return the conditions of a Model, for a test that fails."""
        return self.running.kubectl("get", "mdl", model, "-o", "jsonpath={.status.conditions}", check=False)

    def rows(self) -> dict[str, Row]:
        """Return the processes of the instance by name."""
        return {row.name: row for row in asyncio.run(rows(self._instance))}

    def healthy(self) -> bool:
        """Return whether every process is."""
        return all(row.health == HEALTHY for row in self.rows().values())

    def status(self) -> Any:
        """Return the status of the SharedGroup."""
        return json.loads(self.running.kubectl("get", "sgrp", "card", "-o", "json"))["status"]

    def holder(self) -> str:
        """Return who holds the card."""
        [holder] = self.status()["holders"]
        return str(holder["model"])

    def blocked(self) -> str:
        """Return why the group is blocked; empty if it is not."""
        return next(
            (
                c["message"]
                for c in self.status()["conditions"]
                if c["type"] == BLOCKED and c["status"] == "True"
            ),
            "",
        )


def kill(pid: int) -> None:
    """End a process as SIGKILL does."""
    os.kill(pid, signal.SIGKILL)


def _programs(folder: Path, seen: Path) -> Path:
    folder.mkdir()
    stub = folder / "llama-server"
    stub.write_text(f'#!/bin/sh\nexec {sys.executable} -S -E {engine.__file__} --seen {seen} "$@"\n')
    stub.chmod(stub.stat().st_mode | stat.S_IXUSR)
    return folder


@contextlib.contextmanager
def two_on_one_card(folder: Path) -> Iterator[Group]:
    """Run an instance with the group, both of whose members have served."""
    (folder / "one-card.yaml").write_text(_ONE_CARD)
    (folder / "objects.json").write_text(objects(MEMBERS, MEMORY_MB))
    options, programs = (
        ("--separate", "--simulate-gpus", str(folder / "one-card.yaml")),
        _programs(folder / "programs", folder / "loading"),
    )
    with contextlib.ExitStack() as stack:
        # What follows ends after the instance has: a connection that is cut in the middle of an answer would be left open.
        following = stack.enter_context(contextlib.ExitStack())
        running = stack.enter_context(instance(folder / "state", *options, programs=programs))
        running.kubectl("apply", "-f", str(folder / "objects.json"))
        group = Group(running, folder / "loading")
        for one in (group.steps, group.card):
            one.start()
            following.callback(one.end)
        for name in MEMBERS:
            group.serve(name)
        yield group
