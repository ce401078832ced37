"""The API server process: the store with its journal, the HTTP server, and the controllers.

Like kube-apiserver and kube-controller-manager in one process. It stops at SIGTERM or SIGINT, after its
watches have ended, and exits with 1 when the journal cannot be written, since a write must not be
acknowledged before it is on disk.
"""

import asyncio
import contextlib
import logging
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeAlias

import msgspec

from localkube import tls
from localkube.apiserver import auth
from localkube.apiserver.bootstrap import Content, bootstrap
from localkube.apiserver.builtin_resources import builtin_registry
from localkube.apiserver.discovery import Discovery
from localkube.apiserver.http import ApiHandler, HandlerConfig
from localkube.apiserver.journal import Journal, JournalError
from localkube.apiserver.pod_logs import KubeletLogs
from localkube.apiserver.store import Store
from localkube.apiserver.tables import ResponseTransformer
from localkube.controllers.content_deletion import CRDFinalizer, NamespaceController
from localkube.controllers.crd_establishing import EstablishingController
from localkube.controllers.default_storage_class import DefaultStorageClassController
from localkube.controllers.event_expiry import EventExpiry
from localkube.controllers.garbage_collector import GarbageCollector
from localkube.controllers.jobs import JobController
from localkube.controllers.manager import run_controllers
from localkube.controllers.namespace_contents import NamespaceContents
from localkube.controllers.persistent_volume_binder import PersistentVolumeController
from localkube.controllers.scheduler import Scheduler
from localkube.controllers.workqueue import Controller
from localkube.tls import TlsFiles

logger = logging.getLogger("localkube.apiserver")


class ServerOptions(msgspec.Struct, frozen=True, kw_only=True):
    """The options of an API server.

    `state` is the directory of its journal. Without `tls` it serves plain HTTP, and without `token_file` it accepts
    every request from this machine; TLS requires a token. `port` 0 chooses a free port. The port is written to
    `port_file`.
    """

    state: Path
    port: int = 0
    port_file: Path | None = None
    tls: TlsFiles | None = None
    token_file: Path | None = None
    content: Content = Content()

    def __post_init__(self) -> None:
        """Raise ValueError for TLS without a token."""
        if self.tls and not self.token_file:
            raise ValueError("a server with TLS needs a token file")


Companion: TypeAlias = Callable[[asyncio.Event, asyncio.Event, asyncio.Event], Awaitable[None]]
"""What runs in the process of the API server and decides when that ends: at SIGTERM or SIGINT the first event is set, at SIGUSR1 the second, at
SIGUSR2, which ends nothing, the third."""


def run(options: ServerOptions, companion: Companion | None = None) -> int:
    """Serve until a signal, or until `companion` returns; return the exit code."""
    try:
        with _open_journal(options.state) as journal:
            asyncio.run(_serve(options, journal, companion))
    except JournalError as error:
        logger.critical("%s", error)
        return 1
    return 0


@contextlib.contextmanager
def _open_journal(state: Path) -> Iterator[Journal]:
    state.mkdir(mode=0o700, parents=True, exist_ok=True)
    with Journal(state / "api.journal") as journal:
        yield journal


async def _serve(options: ServerOptions, journal: Journal, companion: Companion | None) -> None:
    leave, stop, rest = asyncio.Event(), asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, leave.set)
    if companion is not None:
        loop.add_signal_handler(signal.SIGUSR1, stop.set)
        loop.add_signal_handler(signal.SIGUSR2, rest.set)
    async with _serving(options, journal):
        await (companion(leave, stop, rest) if companion is not None else leave.wait())


@contextlib.asynccontextmanager
async def _serving(options: ServerOptions, journal: Journal) -> AsyncIterator[None]:
    """Serve, and run the controllers, for the duration of the block.

    While the journal cannot be written, reads and watches continue, and each write is rejected.
    """
    registry = builtin_registry()
    store = Store(registry, now=_now, journal=journal)
    bootstrap(store, registry, options.content)
    authenticator, token = (
        auth.read_token(options.token_file) if options.token_file else (auth.LoopbackAuthenticator(), "")
    )
    context = tls.server_context(options.tls) if options.tls else None
    async with KubeletLogs(options.tls.authority if options.tls else None, token).opened() as node_logs:
        config = HandlerConfig(
            store, ResponseTransformer(registry, _now), Discovery(registry), authenticator, node_logs
        )
        handler = ApiHandler(config)
        runner, port = await handler.listen(context, options.port)
        _announce(options, port)
        try:
            authority = options.tls.authority.read_text() if options.tls else ""
            async with run_controllers(store, controllers(store, authority), _now):
                yield
        finally:
            handler.end_watches()
            await runner.cleanup()


def controllers(store: Store, authority: str = "") -> Sequence[Controller]:
    """Return the controllers that run in the process of the API server; `authority` is the certificate that signs its own, as PEM."""
    return (
        EstablishingController(store, _now),
        NamespaceController(store, _now),
        NamespaceContents(store, authority),
        CRDFinalizer(store),
        GarbageCollector(store),
        JobController(store, _now),
        DefaultStorageClassController(store),
        PersistentVolumeController(store),
        Scheduler(store, _now),
        EventExpiry(store, _now),
    )


def _now() -> datetime:
    return datetime.now(UTC)


def _announce(options: ServerOptions, port: int) -> None:
    logger.info("listens on %s://127.0.0.1:%d", "https" if options.tls else "http", port)
    if options.port_file:
        temporary = options.port_file.with_name(f".{options.port_file.name}.tmp")
        temporary.write_text(f"{port}\n")
        temporary.replace(options.port_file)  # readers never see a partial file
