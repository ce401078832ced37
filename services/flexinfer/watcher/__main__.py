"""`python -m flexinfer.watcher`."""

import asyncio
from typing import Any

from flexinfer.runtime.kubernetes.api import MODELS, Change, Kind, Listing
from flexinfer.runtime.leader_election import while_leading
from flexinfer.runtime.nats.connection import connected
from flexinfer.runtime.nats.state_writer import StateStream
from flexinfer.runtime.process import Runnable, run_all
from flexinfer.runtime.runtime import Runtime
from flexinfer.watcher.cache import KINDS, ClusterCache
from flexinfer.watcher.ports import Stream
from flexinfer.watcher.publisher import StatePublisher
from flexinfer.watcher.status import StatusReconciler
from flexinfer.watcher.watch import follow


class Desk:
    """Where everything seen passes: the verdict first, since all wait for it, then the news."""

    def __init__(self, picture: ClusterCache, scribe: StatusReconciler, courier: StatePublisher) -> None:
        self._picture, self._scribe, self._courier = picture, scribe, courier
        self.whole = asyncio.Event()

    def listed(self, kind: Kind[Any], listing: Listing[Any]) -> None:
        """Take a whole list; what it lacks is gone."""
        touched = self._picture.listed(kind, listing.items, listing.version)
        if kind is MODELS:
            for about in touched:
                if self._picture.model(about.key) is None:
                    self._scribe.forget(about.key)
            for model in listing.items:
                self._scribe.see(model)
        self._courier.touch(touched)
        if self._picture.whole:
            self.whole.set()

    def changed(self, kind: Kind[Any], change: Change[Any]) -> None:
        """Take one change; a bookmark changes nothing."""
        thing = change.object
        if thing is None:
            return
        if change.type == "DELETED":
            if kind is MODELS:
                self._scribe.forget(thing.metadata.key)
            self._courier.touch(self._picture.gone(kind, thing))
            return
        if kind is MODELS:
            self._scribe.see(thing)
        self._courier.touch(self._picture.seen(kind, thing))


async def mirror(runtime: Runtime, stream: Stream) -> None:
    """Keep the stream equal to the API, and every Model's verdict and phase true; for ever."""
    async with asyncio.TaskGroup() as tasks:
        picture = ClusterCache()
        courier = StatePublisher(runtime, stream, picture, tasks)
        desk = Desk(picture, StatusReconciler(runtime, tasks), courier)
        for kind in KINDS:
            tasks.create_task(follow(runtime, kind, desk))
        tasks.create_task(courier.keep(desk.whole))
        tasks.create_task(courier.mark())


async def main(runtime: Runtime) -> None:
    """Watch while this replica leads, with a second connection of the identity that may make streams."""
    settings = runtime.settings
    user = settings.bootstrap_nats_user or settings.nats_user
    password = settings.bootstrap_nats_password_file or settings.nats_password_file
    url, authority = settings.nats_url, settings.nats_ca_file
    if runtime.connection is None:
        raise RuntimeError("the watcher writes the state stream, so it needs a NATS connection")
    async with connected("watcher-bootstrap", url, user, password, authority) as bootstrap:
        stream = StateStream(runtime.connection, bootstrap, replicas=settings.nats_replicas)
        await while_leading(runtime, lambda: mirror(runtime, stream))


RUNNABLE = Runnable("watcher", main, elects=True)


def boot() -> None:
    """Run the watcher until told to stop."""
    run_all([RUNNABLE])


if __name__ == "__main__":
    boot()
