"""`flexinfer chat`: talk to a Model through the door, as any OpenAI client does; a sleeping one wakes."""

import argparse
import http.client
import sys
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import msgspec

from flexinfer.api.conditions import one_line
from flexinfer.cli.errors import CommandError
from flexinfer.cli.target import state_argument, variable

SYSTEM = "You are a helpful assistant."
"""Small models drift without one."""
_WAIT_SECONDS = 600.0
_TEXT_LIMIT = 400


def arguments(parser: argparse.ArgumentParser) -> None:
    """Take a Model, a prompt or none, and how to sample."""
    parser.add_argument("model", metavar="MODEL", help="a name, or namespace/name")
    parser.add_argument(
        "prompt", nargs="?", metavar="PROMPT", help="without one: a conversation until Ctrl-D"
    )
    parser.add_argument("--system", default=SYSTEM, help=f"what the Model is told first (default: {SYSTEM})")
    parser.add_argument("--temperature", type=float)
    parser.add_argument("--max-tokens", type=int, default=512)
    state_argument(parser)


def run(given: argparse.Namespace) -> int:
    """Ask, and print the answer as it comes."""
    door = Door(variable("OPENAI_BASE_URL", given), variable("OPENAI_API_KEY", given))
    options = {"temperature": given.temperature, "max_tokens": given.max_tokens}
    chosen = {name: value for name, value in options.items() if value is not None}
    said = [{"role": "system", "content": given.system}] if given.system else []
    prompts = iter([given.prompt]) if given.prompt else _typed()
    for prompt in prompts:
        said.append({"role": "user", "content": prompt})
        answer = "".join(_printed(door.stream({"model": given.model, "messages": said, **chosen})))
        said.append({"role": "assistant", "content": answer})
    return 0


def _typed() -> Iterator[str]:
    while True:
        if sys.stdin.isatty():
            print("> ", end="", flush=True)
        text = sys.stdin.readline()
        if not text:
            return
        if text.strip():
            yield text.strip()


def _printed(parts: Iterator[str]) -> Iterator[str]:
    for part in parts:
        print(part, end="", flush=True)
        yield part
    print()


class Door:
    """The OpenAI-compatible door, over plain HTTP or TLS."""

    def __init__(self, base_url: str, key: str) -> None:
        self._url = urlsplit(base_url)
        self._headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}

    def ask(self, body: dict[str, Any]) -> Any:
        """Return the answer to one chat completion."""
        return msgspec.json.decode(self._send(body).read())

    def stream(self, body: dict[str, Any]) -> Iterator[str]:
        """Yield the answer to one chat completion as it comes."""
        for line in self._send({**body, "stream": True}):
            data = line.strip().removeprefix(b"data:").strip()
            if not line.startswith(b"data:"):
                continue
            if data == b"[DONE]":
                return
            yield _text(msgspec.json.decode(data))
        raise CommandError("the answer ended before it was complete")

    def _send(self, body: dict[str, Any]) -> http.client.HTTPResponse:
        kind = http.client.HTTPSConnection if self._url.scheme == "https" else http.client.HTTPConnection
        connection = kind(self._url.hostname or "", self._url.port, timeout=_WAIT_SECONDS)
        try:
            path = f"{self._url.path.rstrip('/')}/chat/completions"
            connection.request("POST", path, body=msgspec.json.encode(body), headers=self._headers)
            response = connection.getresponse()
        except (OSError, http.client.HTTPException) as error:
            raise CommandError(f"the door at {self._url.geturl()} does not answer: {error}") from error
        if response.status != http.HTTPStatus.OK:
            raise CommandError(f"the door said {response.status}: {_error(response.read())}")
        return response


def _text(chunk: Any) -> str:
    if isinstance(chunk, dict) and "error" in chunk:
        raise CommandError(f"the answer broke off: {_error(msgspec.json.encode(chunk))}")
    try:
        return chunk["choices"][0]["delta"].get("content") or "" if chunk["choices"] else ""
    except (KeyError, IndexError, TypeError, AttributeError):
        return ""


def _error(body: bytes) -> str:
    try:
        return one_line(str(msgspec.json.decode(body)["error"]["message"]))
    except (msgspec.MsgspecError, KeyError, TypeError):
        return one_line(body.decode(errors="replace"))[:_TEXT_LIMIT]
