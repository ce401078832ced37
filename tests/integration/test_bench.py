"""`flexinfer bench` and `flexinfer snapshot` as processes, against a real Kubernetes API and an engine that streams."""

import http.server
import itertools
import json
import os
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from flexinfer.api.groupversion import API_VERSION
from tests.apiserver import LocalApi
from tests.instance import BIN
from tests.patience import patient

pytestmark = pytest.mark.integration
SECONDS = patient(120)
_numbers = itertools.count(1)


class Engine(http.server.BaseHTTPRequestHandler):
    """A proxy with an engine that generates as many tokens as it is asked for; a model called terse ends after one."""

    asked: list[dict[str, Any]]

    def do_POST(self) -> None:
        """Stream an answer, and its usage as OpenAI's API defines it."""
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.asked.append(body)
        tokens = 1 if body["model"].endswith("terse") else body["max_tokens"]
        self.send_response(200)
        self.end_headers()
        for _ in range(tokens):
            self._event(choices=[{"delta": {"content": "word "}}], system_fingerprint="b6900")
            self.wfile.flush()
        self._event(choices=[], usage={"completion_tokens": tokens})
        self.wfile.write(b"data: [DONE]\n\n")

    def _event(self, **fields: Any) -> None:
        self.wfile.write(b"data: " + json.dumps(fields).encode() + b"\n\n")

    def log_message(self, *_: object) -> None:
        """Stay silent."""


class Machine:
    """Commands with an API server and an engine; `asked` are the requests that it got."""

    def __init__(self, api: LocalApi, port: int, home: Path, asked: list[dict[str, Any]]) -> None:
        self.api, self.asked = api, asked
        self._environment = os.environ | {
            "KUBECONFIG": str(api.kubeconfig),
            "HOME": str(home),
            "OPENAI_BASE_URL": f"http://127.0.0.1:{port}/v1",
            "OPENAI_API_KEY": "key",
        }
        self.namespace = f"bench-{next(_numbers)}"
        api.make_namespace(self.namespace)

    def run(self, *words: str) -> "subprocess.CompletedProcess[str]":
        """Run a command."""
        command = [str(BIN / "flexinfer"), *words, "-n", self.namespace]
        return subprocess.run(
            command, env=self._environment, capture_output=True, text=True, check=False, timeout=SECONDS
        )

    @property
    def path(self) -> str:
        """Where its Models are."""
        return f"/apis/{API_VERSION}/namespaces/{self.namespace}/models"

    def model(self, name: str) -> None:
        """Create a Model."""
        spec = {"backend": "llamacpp", "source": "pvc://models/x.gguf", "litellm": {"aliases": ["fast"]}}
        body = {"apiVersion": API_VERSION, "kind": "Model", "metadata": {"name": name}, "spec": spec}
        self.api.create(self.path, body)


@pytest.fixture
def machine(local_api: LocalApi, tmp_path: Path) -> Iterator[Machine]:
    """Serve an engine; yields where commands run."""
    asked: list[dict[str, Any]] = []
    handler = type("Asked", (Engine,), {"asked": asked})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield Machine(local_api, server.server_port, tmp_path, asked)
        server.shutdown()


def test_what_is_measured_is_kept_for_the_snapshot(machine: Machine) -> None:
    """In `status.metrics`, by a field manager that owns nothing else; the page of one state is always the same."""
    machine.model("smollm2")
    done = machine.run("bench", "smollm2", "--requests", "2", "--max-tokens", "16")
    assert done.returncode == 0, done.stderr
    assert "llamacpp b6900, 2 requests one after the other" in done.stdout
    assert [body["max_tokens"] for body in machine.asked] == [1, 16, 16]
    assert {body["model"] for body in machine.asked} == {f"{machine.namespace}/smollm2"}
    model = machine.api.get(f"{machine.path}/smollm2")
    metrics = model["status"]["metrics"]
    assert metrics["tokensPerSecond"] > 0
    assert metrics["engine"] == "llamacpp b6900"
    (owner,) = [m for m in model["metadata"]["managedFields"] if m["manager"] == "flexinfer-bench"]
    assert owner["subresource"] == "status"
    assert list(owner["fieldsV1"]["f:status"]) == ["f:metrics"]
    page = machine.run("snapshot").stdout
    assert f"| fast | {machine.namespace}/smollm2 |" in page
    assert f"| {metrics['tokensPerSecond']:.1f} | " in page
    assert metrics["measuredAt"] in page
    assert machine.run("snapshot").stdout == page


def test_a_second_result_replaces_the_first(machine: Machine) -> None:
    """The page shows the last one."""
    machine.model("smollm2")
    for count in ("2", "3"):
        assert machine.run("bench", "smollm2", "--requests", count, "--max-tokens", "4").returncode == 0
    benchmarks = machine.run("snapshot").stdout.partition("## Benchmarks")[2]
    assert benchmarks.count(f"| {machine.namespace}/smollm2 |") == 1


def test_a_dry_run_keeps_nothing(machine: Machine) -> None:
    """It prints the same."""
    machine.model("smollm2")
    done = machine.run("bench", "smollm2", "--requests", "1", "--max-tokens", "4", "--dry-run")
    assert "tokens a second" in done.stdout
    assert "metrics" not in machine.api.get(f"{machine.path}/smollm2").get("status", {})


def test_what_cannot_be_measured_is_one_sentence(machine: Machine) -> None:
    """An answer of one token has no rate; a Model that is not there starts nothing."""
    machine.model("terse")
    done = machine.run("bench", "terse", "--requests", "1")
    assert done.returncode == 1
    assert "ended an answer after 1 tokens, too few to measure" in done.stderr
    done = machine.run("bench", "absent")
    assert done.returncode == 1
    assert "Model 'absent' not found" in done.stderr
