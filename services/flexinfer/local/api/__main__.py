"""The local API as a process: a store with its journal, the small controllers beside it, and the HTTPS face in front.

It ends at a SIGTERM, watches first, and with exit code 1 when its journal cannot be written: what is not on disk is never told.
"""

import argparse
import asyncio
import contextlib
import logging
import signal
import sys
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

from flexinfer.local.api import auth, certificates
from flexinfer.local.api.controllers.binding import Binding
from flexinfer.local.api.controllers.claims import Claims
from flexinfer.local.api.controllers.establishing import Establishing
from flexinfer.local.api.controllers.garbage import Garbage
from flexinfer.local.api.controllers.jobs import Jobs
from flexinfer.local.api.controllers.namespaces import Definitions, Namespaces
from flexinfer.local.api.controllers.work import Controller
from flexinfer.local.api.definitions import Registry
from flexinfer.local.api.discovery import Discovery
from flexinfer.local.api.driving import driven
from flexinfer.local.api.http import Face, Parts
from flexinfer.local.api.journal import Journal, JournalError
from flexinfer.local.api.logs import NodeLogs
from flexinfer.local.api.setting import set_up
from flexinfer.local.api.store import Store
from flexinfer.local.api.tables import Shaper

logger = logging.getLogger("flexinfer.local.api")


def arguments(given: Sequence[str]) -> argparse.Namespace:
    """Return the parsed command line."""
    parser = argparse.ArgumentParser(prog="python -m flexinfer.local.api", description=__doc__)
    parser.add_argument("--state", type=Path, required=True, help="folder of the journal")
    parser.add_argument("--port", type=int, required=True, help="port on 127.0.0.1; 0 takes any")
    parser.add_argument(
        "--certificates", type=Path, required=True, help="folder of authority and certificates"
    )
    parser.add_argument("--token-file", type=Path, required=True, help="file with the bearer token")
    parser.add_argument("--port-file", type=Path, help="file to write the port to")
    return parser.parse_args(given)


def main(given: Sequence[str]) -> int:
    """Run until told to stop; returns the exit code."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    options = arguments(given)
    try:
        with _opened(options.state) as journal:
            return asyncio.run(_serve(options, journal))
    except JournalError as error:
        logger.critical("%s", error)
        return 1


@contextlib.contextmanager
def _opened(state: Path) -> Iterator[Journal]:
    state.mkdir(mode=0o700, parents=True, exist_ok=True)
    with Journal(state / "api.journal") as journal:
        yield journal


async def _serve(options: argparse.Namespace, journal: Journal) -> int:
    ended = asyncio.Event()
    lost: list[JournalError] = []

    def lose(error: JournalError) -> None:
        lost.append(error)
        ended.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, ended.set)
    registry = Registry()
    store = Store(registry, now=_now, journal=journal)
    set_up(store, registry)
    gate, token = auth.gate(options.token_file)
    context = certificates.server_context(options.certificates)
    async with NodeLogs(options.certificates, token).opened() as node_logs:
        parts = Parts(store, Shaper(registry, _now), Discovery(registry), gate, node_logs, lose)
        face = Face(parts)
        runner, port = await face.listen(context, options.port)
        logger.info("listens on https://127.0.0.1:%d", port)
        if options.port_file:
            _announce(options.port_file, port)
        async with driven(store, controllers(store), _now, lose):
            await ended.wait()
        face.end_watches()
        await runner.cleanup()
    if lost:
        logger.critical("%s", lost[0])
    return 1 if lost else 0


def controllers(store: Store) -> Sequence[Controller]:
    """Return the controllers that run beside the store."""
    return (
        Establishing(store, _now),
        Namespaces(store, _now),
        Definitions(store),
        Garbage(store),
        Jobs(store, _now),
        Claims(store),
        Binding(store, _now),
    )


def _now() -> datetime:
    return datetime.now(UTC)


def _announce(path: Path, port: int) -> None:
    draft = path.with_name(f".{path.name}.draft")
    draft.write_text(f"{port}\n")
    draft.replace(path)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
