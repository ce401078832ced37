"""The event loop of a process: uvloop's where it is installed, which the extra `speed` brings, else asyncio's.

Besides CPU time it saves memory: asyncio fills 256 KiB with zeros for each TLS connection (`SSLProtocol.max_size`), uvloop
reserves as much and touches what arrives. An API server with sixteen connections takes 4 MiB less. uvloop itself takes 2 MiB: a process
with two connections and a message each second, as the agent is, does without (`process.Runnable.light`).
"""

import contextlib


def install() -> None:
    """Make it the loop of `asyncio.run` in this process."""
    with contextlib.suppress(ImportError):
        import uvloop  # noqa: PLC0415 -- an extra

        uvloop.install()
