"""Asking: single requests of `up` to the API server, by hand on asyncio streams, since an HTTP library would cost it megabytes for good."""

import asyncio
import contextlib
import ssl
from typing import Any

import msgspec

from flexinfer.local.instance import Instance, read_secret
from flexinfer.local.ports import HOST

_ANSWER_SECONDS = 10.0
_FIRST_FAILURE = 400


class Answer(msgspec.Struct, frozen=True):
    """A whole answer."""

    status: int
    body: bytes

    @property
    def refused(self) -> bool:
        """Whether it is a client's or server's error."""
        return self.status >= _FIRST_FAILURE

    def object(self) -> dict[str, Any]:
        """Return the body as an object; empty when it is none."""
        with contextlib.suppress(msgspec.DecodeError):
            return msgspec.json.decode(self.body, type=dict[str, Any])
        return {}


async def ask(
    instance: Instance, method: str, path: str, body: object = None, *, content: str = "json"
) -> Answer:
    """Ask the API server as its administrator; OSError or TimeoutError when it does not answer."""
    data = b"" if body is None else msgspec.json.encode(body)
    head = (
        f"{method} {path} HTTP/1.0",  # so that the answer ends with the connection, in one piece
        f"Host: {HOST}",
        f"Authorization: Bearer {read_secret(instance.token_file)}",
        "Accept: application/json",
        f"Content-Type: application/{content}",
        f"Content-Length: {len(data)}",
    )
    context = ssl.create_default_context(cafile=str(instance.certificates / "ca.crt"))
    async with asyncio.timeout(_ANSWER_SECONDS):
        reader, writer = await asyncio.open_connection(HOST, instance.ports.api, ssl=context)
        try:
            writer.write("\r\n".join((*head, "", "")).encode() + data)
            return _parsed(await reader.read())
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()


def _parsed(answer: bytes) -> Answer:
    head, _, body = answer.partition(b"\r\n\r\n")
    code = head.split(b" ")[1:2]
    if not code:
        raise ConnectionResetError("the connection ended before the answer")
    return Answer(int(code[0]), body)
