"""`python -m flexinfer.watcher`."""

import asyncio

from flexinfer.runtime.leader_election import while_leading
from flexinfer.runtime.nats.connection import connected
from flexinfer.runtime.nats.state_writer import StateStream
from flexinfer.runtime.process import Runnable
from flexinfer.runtime.runtime import Runtime
from flexinfer.runtime.settings import runtime_classes_of
from flexinfer.watcher.cache import KINDS, ClusterCache
from flexinfer.watcher.handler import WatchHandler
from flexinfer.watcher.publisher import StatePublisher, Stream
from flexinfer.watcher.status import StatusReconciler
from flexinfer.watcher.watch import follow


async def mirror(runtime: Runtime, stream: Stream) -> None:
    """Keep the state stream equal to the API server, and the watcher's status of every Model right.

    Runs until cancelled.
    """
    try:
        async with asyncio.TaskGroup() as tasks:
            cache = ClusterCache(runtime_classes_of(runtime.settings))
            publisher = StatePublisher(runtime, stream, cache, tasks)
            handler = WatchHandler(cache, StatusReconciler(runtime, tasks), publisher)
            for kind in KINDS:
                tasks.create_task(follow(runtime, kind, handler))
            tasks.create_task(publisher.reconcile(handler.synced))
            tasks.create_task(publisher.publish_watermarks())
    finally:
        runtime.report_problem("storage", None)  # it is the leader's to write


async def main(runtime: Runtime) -> None:
    """Watch while this replica is the leader. Raises RuntimeError without a NATS connection.

    A second connection has the identity that may create streams.
    """
    settings = runtime.settings
    user = settings.bootstrap_nats_user or settings.nats_user
    password = settings.bootstrap_nats_password_file or settings.nats_password_file
    url, authority = settings.nats_url, settings.nats_ca_file
    if runtime.connection is None:
        raise RuntimeError("the watcher writes the state stream, so it needs a NATS connection")
    async with connected("watcher-bootstrap", url, user, password, authority) as bootstrap:
        stream = StateStream(
            runtime.connection,
            bootstrap,
            replicas=settings.nats_replicas,
            report_problem=runtime.report_problem,
        )
        await while_leading(runtime, lambda: mirror(runtime, stream))


RUNNABLE = Runnable("watcher", main, elects=True)
boot = RUNNABLE.boot


if __name__ == "__main__":
    boot()
