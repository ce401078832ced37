"""Activity: what the proxy publishes about its traffic, and when.

The activity of a Model is published when its requests (in flight and queued) leave or reach zero, at most
once a second and the last state wins; with each heartbeat while there are requests, or if one ended since;
and at once when the Model stops being ready, since what stops its engine waits for that. What NATS has not stored is
published again after a second, as it is then. Whether a Model is
idle is for the reaper to decide.
"""

import asyncio
import contextlib

import msgspec

from flexinfer.events import events
from flexinfer.proxy.models import ModelTable
from flexinfer.proxy.view import Route
from flexinfer.runtime.runtime import Runtime

HEARTBEAT_SECONDS, MIN_INTERVAL_SECONDS = 5.0, 1.0
_MIN_WAIT_SECONDS = 0.001
"""A time that is missed by a rounding error must not become a busy loop."""


class _Activity(msgspec.Struct):
    """What is known of a Model's traffic, and what of it has been published; times by the monotonic clock."""

    route: Route
    published_at: float = float("-inf")
    published_busy: bool = False
    unpublished: bool = False
    due_now: bool = False
    stored: bool = True
    """Whether NATS has stored the last message."""

    @property
    def changed(self) -> bool:
        """Whether the requests have left or reached zero since the last message, or that one was lost."""
        return self.route.busy != self.published_busy or not self.stored


class ActivityReporter:
    """Records the traffic of each Model that has any, and publishes it under this proxy's name.

    Each message says up to which resourceVersion of the table's Models this proxy has read: what was published
    before it had seen a stop says nothing about the requests that it will still send.
    """

    def __init__(self, runtime: Runtime, table: ModelTable, proxy: str) -> None:
        self._runtime, self._table, self._proxy = runtime, table, proxy
        self._started = runtime.clock()
        self._activities: dict[str, _Activity] = {}  # uid -> its traffic
        self._due = asyncio.Event()

    def record(self, route: Route) -> None:
        """Record that a request of this Model arrived, was admitted or ended."""
        activity = self._of(route)
        route.last_request, activity.unpublished = self._runtime.clock(), True
        if activity.changed:
            self._due.set()

    def publish_now(self, route: Route) -> None:
        """Have the activity of a Model published at once: it is no longer ready.

        Its engine is stopped as soon as every proxy says that nothing is in flight.
        """
        self._of(route).due_now = True
        self._due.set()

    def _of(self, route: Route) -> _Activity:
        """Return the activity of a route: a new one if the Model was taken for deleted, and has another route since."""
        activity = self._activities.get(route.model.uid)
        if activity is None or activity.route is not route:
            activity = self._activities[route.model.uid] = _Activity(route)
        return activity

    async def run(self) -> None:
        """Publish heartbeats and activity until cancelled."""
        heartbeat_at, stored = self._runtime.clock(), await self._publish_heartbeat()
        while True:
            interval = HEARTBEAT_SECONDS if stored else MIN_INTERVAL_SECONDS
            await self._wait(self._next_due(heartbeat_at + interval))
            now = self._runtime.clock()
            heartbeat = now >= heartbeat_at + interval
            if heartbeat:
                heartbeat_at, stored = now, await self._publish_heartbeat()
            due = [a for a in self._activities.values() if _is_due(a, now, heartbeat=heartbeat)]
            await asyncio.gather(*(self._publish(activity, now) for activity in due))
            self._forget(now)

    async def shut_down(self) -> None:
        """Publish that this proxy has ended, so that its silence is not taken for a failure."""
        await self._runtime.bus.publish(events.ProxyObserved(proxy=self._proxy, final=True))

    async def _wait(self, until: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(max(_MIN_WAIT_SECONDS, until - self._runtime.clock())):
                await self._due.wait()
        self._due.clear()

    def _next_due(self, heartbeat_at: float) -> float:
        """Return when something is to be published at the latest."""
        due_times = [
            a.published_at + MIN_INTERVAL_SECONDS
            for a in self._activities.values()
            if a.unpublished and a.changed
        ]
        return min([heartbeat_at, *due_times])

    async def _publish_heartbeat(self) -> bool:
        return await self._runtime.bus.publish(
            events.ProxyObserved(proxy=self._proxy, version=self._table.version)
        )

    async def _publish(self, activity: _Activity, now: float) -> None:
        """Publish the activity of a Model; what NATS has not stored is still to be published, a second later."""
        route, meta = activity.route, activity.route.model.metadata
        activity.published_busy, activity.published_at = route.busy, now
        activity.unpublished = activity.due_now = False
        activity.stored = await self._runtime.bus.publish(
            events.ActivityObserved(
                proxy=self._proxy,
                namespace=meta.namespace,
                name=meta.name,
                uid=meta.uid,
                idle_seconds=max(0.0, now - self._last_request(route)),
                in_flight=route.in_flight,
                waiting=route.breaker.queued,
                version=meta.version,
            )
        )
        activity.unpublished |= not activity.stored

    def _last_request(self, route: Route) -> float:
        """Return the time of a Model's last request here; of one without any, when this proxy started: it has seen none since."""
        return self._started if route.last_request is None else route.last_request

    def _forget(self, now: float) -> None:
        """Drop deleted Models, and those without traffic whose next message would not come too early any more."""
        self._activities = {
            uid: a
            for uid, a in self._activities.items()
            if not a.route.deleted
            and (a.unpublished or a.due_now or a.route.busy or now < a.published_at + MIN_INTERVAL_SECONDS)
        }


def _is_due(activity: _Activity, now: float, *, heartbeat: bool) -> bool:
    """Return whether to publish; a deleted Model never: a later one of the same name has its subject."""
    if activity.route.deleted:
        return False
    has_changed = activity.changed and now >= activity.published_at + MIN_INTERVAL_SECONDS
    beating = heartbeat and (activity.route.busy or activity.unpublished)
    return has_changed or activity.due_now or beating
