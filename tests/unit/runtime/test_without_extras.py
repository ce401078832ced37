"""What a process does not hold of nats-py's extras, and that whatever else needs them has them."""

import subprocess
import sys
from pathlib import Path

import pytest

from flexinfer.api.services import SERVICES
from flexinfer.runtime.nats import connection
from flexinfer.runtime.settings import SettingsError, load

OF_THE_AGENT = ("aiohttp", "yarl", "multidict", "yaml", "uvloop", "importlib.metadata", "tempfile")
"""What the process that runs on every node does not import; `python -m benchmarks.telemetry` measures it."""


def imported(code: str) -> str:
    """Return what a new process prints."""
    return subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout


def test_the_agent_imports_none_of_what_it_does_not_use() -> None:
    """Each is memory on every node, also once it has a client of the Kubernetes API."""
    code = (
        "import sys, flexinfer.agent.__main__, flexinfer.runtime.kubernetes.light_transport;"
        f"print([m for m in {OF_THE_AGENT} if m in sys.modules])"
    )
    assert imported(code) == "[]\n"


@pytest.mark.parametrize("name", sorted(SERVICES))
def test_no_service_holds_the_extras_of_nats(name: str) -> None:
    """It looks up the version of nats-py for a list of connections alone."""
    code = f"import sys, flexinfer.{name}.__main__; from nats.aio import transport; print(transport.aiohttp, 'importlib.metadata' in sys.modules)"
    assert imported(code) == "None False\n"


@pytest.mark.parametrize("first", ["aiohttp", "flexinfer.runtime.nats.connection"])
def test_what_is_hidden_from_nats_can_be_imported_before_and_after(first: str) -> None:
    """The proxy serves by aiohttp, and has it whichever is imported first."""
    code = (
        f"import {first}, flexinfer.runtime.nats.connection, aiohttp, importlib.metadata;"
        "from nats.aio import transport;"
        "print(aiohttp.ClientSession.__name__, importlib.metadata.version('nats-py') > '2', transport.aiohttp)"
    )
    assert imported(code) == "ClientSession True None\n"


@pytest.mark.parametrize("url", ["ws://nats:8080", "wss://nats", "nats://one:4222, wss://two:443"])
async def test_an_address_of_a_websocket_is_refused_with_its_remedy(url: str, tmp_path: Path) -> None:
    """By the settings, and by what the command line connects with."""
    with pytest.raises(
        SettingsError, match="FLEXINFER_NATS_URL: NATS is not reached by WebSockets; name its nats://"
    ):
        load({"FLEXINFER_NATS_URL": url})
    with pytest.raises(OSError, match="not reached by WebSockets"):
        async with connection.connected("tap", url, "", str(tmp_path / "none")):
            pass


@pytest.mark.parametrize("url", ["nats://127.0.0.1:4222", "tls://nats:4222", "nats:4222", "nats://ws:4222"])
def test_every_other_address_is_left_to_the_client(url: str) -> None:
    """It knows several forms."""
    assert load({"FLEXINFER_NATS_URL": url}).nats_url == url
