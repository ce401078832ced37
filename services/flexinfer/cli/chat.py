"""`flexinfer chat`: send chat completions to a Model through the proxy, as any OpenAI client does."""

import argparse
import asyncio
import contextlib
import ssl
import sys
from collections.abc import AsyncIterator, Iterator, Mapping
from urllib.parse import urlsplit

import aiohttp
import msgspec

from flexinfer.api.conditions import one_line
from flexinfer.cli import reach
from flexinfer.cli.errors import CommandError, UnreachableError
from flexinfer.cli.target import target_arguments

SYSTEM = "You are a helpful assistant."
"""Default system prompt: small models drift without one."""
_TIMEOUT_SECONDS = 600.0
_TEXT_LIMIT = 400


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the Model, a prompt, and how to sample."""
    parser.add_argument("model", metavar="MODEL", help="a name, or namespace/name")
    parser.add_argument(
        "prompt", nargs="?", metavar="PROMPT", help="without one: a conversation until Ctrl-D"
    )
    parser.add_argument("--system", default=SYSTEM, help=f"system prompt (default: {SYSTEM})")
    parser.add_argument("--temperature", type=float)
    parser.add_argument("--max-tokens", type=int, default=512)
    target_arguments(parser)


def run(options: argparse.Namespace) -> int:
    """Send the prompts and print each answer as it arrives. Raises CommandError."""
    sampling = {"temperature": options.temperature, "max_tokens": options.max_tokens}
    body = {"model": options.model} | {name: value for name, value in sampling.items() if value is not None}
    messages = [{"role": "system", "content": options.system}] if options.system else []
    with reach.proxy(options) as server:
        client = ChatClient(server.base_url, server.key)
        for prompt in [options.prompt] if options.prompt else _typed():
            messages.append({"role": "user", "content": prompt})
            answer = asyncio.run(_print(client.stream({**body, "messages": messages})))
            messages.append({"role": "assistant", "content": answer})
    return 0


def _typed() -> Iterator[str]:
    """Yield the lines of a conversation until the end of the input."""
    while True:
        if sys.stdin.isatty():
            print("> ", end="", flush=True)
        text = sys.stdin.readline()
        if not text:
            return
        if text.strip():
            yield text.strip()


async def _print(parts: AsyncIterator[str]) -> str:
    """Print the parts of an answer as they arrive; returns the whole."""
    answer = ""
    async for part in parts:
        print(part, end="", flush=True)
        answer += part
    print()
    return answer


class ChatClient:
    """Chat completions at an OpenAI-compatible address. All methods raise CommandError."""

    def __init__(self, base_url: str, key: str) -> None:
        self._url = f"{base_url.rstrip('/')}/chat/completions"
        self._headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}

    async def ask(self, body: Mapping[str, object]) -> str:
        """Return the answer of one chat completion."""
        async with self._sent(body) as response:
            reply = msgspec.json.decode(await response.read())
            return str(reply["choices"][0]["message"]["content"])

    async def stream(self, body: Mapping[str, object]) -> AsyncIterator[str]:
        """Yield the answer of one chat completion as it arrives."""
        async for chunk in self.chunks(body):
            yield _text(chunk)

    async def chunks(self, body: Mapping[str, object]) -> AsyncIterator[object]:
        """Yield the events of one chat completion as they arrive, each as JSON. Raises CommandError."""
        async with self._sent({**body, "stream": True}) as response:
            async for line in response.content:
                data = line.strip().removeprefix(b"data:").strip()
                if not line.startswith(b"data:"):
                    continue
                if data == b"[DONE]":
                    return
                chunk = msgspec.json.decode(data)
                if isinstance(chunk, dict) and "error" in chunk:
                    raise CommandError(f"the stream was cut off: {_error(data)}")
                yield chunk
        raise CommandError("the stream ended before the answer was complete")

    @contextlib.asynccontextmanager
    async def _sent(self, body: Mapping[str, object]) -> AsyncIterator[aiohttp.ClientResponse]:
        timeout = aiohttp.ClientTimeout(total=_TIMEOUT_SECONDS)
        # aiohttp's own context may have been made without the authorities of this system (`flexinfer.runtime.without_authorities`).
        connector = aiohttp.TCPConnector(ssl=ssl.create_default_context())
        async with aiohttp.ClientSession(
            connector=connector, timeout=timeout, headers=self._headers
        ) as session:
            try:
                async with session.post(self._url, data=msgspec.json.encode(body)) as response:
                    if response.status != 200:  # noqa: PLR2004 -- HTTP's own
                        message = _error(await response.read())
                        raise CommandError(f"request failed: HTTP {response.status}: {message}")
                    yield response
            except (aiohttp.ClientError, OSError, TimeoutError) as error:
                raise UnreachableError(
                    f"{self._url} does not answer: {str(error) or type(error).__name__}",
                    urlsplit(self._url).netloc,
                ) from error


def delta(chunk: object) -> Mapping[str, object]:
    """Return what an event of a stream adds to the answer; nothing for one without a choice."""
    choices = chunk.get("choices") if isinstance(chunk, Mapping) else None
    first = choices[0] if isinstance(choices, list) and choices else None
    content = first.get("delta") if isinstance(first, Mapping) else None
    return content if isinstance(content, Mapping) else {}


def _text(chunk: object) -> str:
    content = delta(chunk).get("content")
    return content if isinstance(content, str) else ""


def _error(body: bytes) -> str:
    try:
        return one_line(str(msgspec.json.decode(body)["error"]["message"]))
    except (msgspec.MsgspecError, KeyError, TypeError):
        return one_line(body.decode(errors="replace"))[:_TEXT_LIMIT]
