"""The API server as a process: a store with its journal, the controllers beside it, and the HTTP interface in front.

It ends at a SIGTERM, watches first, and with exit code 1 when its journal cannot be written: what is not on disk is never answered.
"""

import asyncio
import contextlib
import logging
import signal
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from localkube import tls
from localkube.apiserver import auth
from localkube.apiserver.bootstrap import Content, bootstrap
from localkube.apiserver.builtin_resources import builtin_registry
from localkube.apiserver.discovery import Discovery
from localkube.apiserver.http import Face, Parts
from localkube.apiserver.journal import Journal, JournalError
from localkube.apiserver.pod_logs import NodeLogs
from localkube.apiserver.store import Store
from localkube.apiserver.tables import Shaper
from localkube.controllers.content_deletion import CRDFinalizer, NamespaceController
from localkube.controllers.crd_establishing import EstablishingController
from localkube.controllers.garbage_collector import GarbageCollector
from localkube.controllers.jobs import JobController
from localkube.controllers.manager import run_controllers
from localkube.controllers.persistent_volume_binder import PersistentVolumeController
from localkube.controllers.scheduler import Scheduler
from localkube.controllers.workqueue import Controller
from localkube.tls import TlsFiles

logger = logging.getLogger("localkube.apiserver")


class ServerOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What an API server is started with.

    `state` is the folder of its journal. Without `tls` it serves plain HTTP, and then without `token_file` to anyone on this machine;
    with TLS a token is required. `port` 0 takes any, which is then written to `port_file`.
    """

    state: Path
    port: int = 0
    port_file: Path | None = None
    tls: TlsFiles | None = None
    token_file: Path | None = None
    content: Content = Content()

    def __post_init__(self) -> None:
        """Refuse TLS without a token."""
        if self.tls and not self.token_file:
            raise ValueError("a server with TLS needs a token file")


def run(options: ServerOptions) -> int:
    """Serve until a signal ends it; returns the exit code."""
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


async def _serve(options: ServerOptions, journal: Journal) -> int:
    ended = asyncio.Event()
    lost: list[JournalError] = []

    def lose(error: JournalError) -> None:
        lost.append(error)
        ended.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, ended.set)
    registry = builtin_registry()
    store = Store(registry, now=_now, journal=journal)
    bootstrap(store, registry, options.content)
    gate, token = auth.gate(options.token_file) if options.token_file else (auth.Anonymous(), "")
    context = tls.server_context(options.tls) if options.tls else None
    async with NodeLogs(options.tls.authority if options.tls else None, token).opened() as node_logs:
        face = Face(Parts(store, Shaper(registry, _now), Discovery(registry), gate, node_logs, lose))
        runner, port = await face.listen(context, options.port)
        _announce(options, port)
        async with run_controllers(store, controllers(store), _now, lose):
            await ended.wait()
        face.end_watches()
        await runner.cleanup()
    if lost:
        logger.critical("%s", lost[0])
    return 1 if lost else 0


def controllers(store: Store) -> Sequence[Controller]:
    """Return the controllers that run beside the store."""
    return (
        EstablishingController(store, _now),
        NamespaceController(store, _now),
        CRDFinalizer(store),
        GarbageCollector(store),
        JobController(store, _now),
        PersistentVolumeController(store),
        Scheduler(store, _now),
    )


def _now() -> datetime:
    return datetime.now(UTC)


def _announce(options: ServerOptions, port: int) -> None:
    logger.info("listens on %s://127.0.0.1:%d", "https" if options.tls else "http", port)
    if options.port_file:
        draft = options.port_file.with_name(f".{options.port_file.name}.draft")
        draft.write_text(f"{port}\n")
        draft.replace(options.port_file)
