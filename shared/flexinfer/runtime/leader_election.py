"""Leader election: the Lease that says which replica of a component may act.

leaseDuration is 6 s, renewals are 2 s apart, and a replica stops acting 4 s after its last renewal by the
monotonic clock: a leader that was paused stops before a standby may start. What it still has in flight is
fenced by resourceVersions. So is a renewal: it is one PUT of the Lease as last written, which fails if
another replica has written since; a replica whose time has run out reads the Lease first. A replica of the
same identity takes its own Lease over at once: under `flexinfer up` the supervisor starts the next process
only after it has reaped the previous one.

Writes are refused for a replica that is not the leader by `kubernetes.client.KubernetesClient.writing_while`,
not here.
"""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable

import msgspec

from flexinfer.api import kube
from flexinfer.api.installation import SYSTEM_NAMESPACE
from flexinfer.api.metadata import Metadata
from flexinfer.runtime.kubernetes.api import LEASES, ApiError, ConflictError, NotFoundError
from flexinfer.runtime.runtime import Runtime

log = logging.getLogger(__name__)
DURATION_SECONDS, RENEW_SECONDS, ACT_SECONDS = 6, 2.0, 4.0
_STANDBY_POLL_SECONDS = RENEW_SECONDS / 4
_RETRY_SECONDS = RENEW_SECONDS / 8
_RENEWAL_TIMEOUT = 1.5
"""Seconds after which a renewal is abandoned for another, which still arrives before the leader must stop."""
_RELEASE_ATTEMPTS = 3
_MOST_TRANSITIONS = 2**31 - 1
"""The largest number that the API server takes; a number that was edited to it must not end the election."""


class LeaderElector:
    """One replica's part in the election for one Lease."""

    def __init__(self, name: str, identity: str) -> None:
        self._name = f"flexinfer-{name}"
        self._identity = f"{name}-{identity}"
        self._renewed_at: float | None = None
        self._written: kube.Lease | None = None
        self._other: tuple[str, float] | None = None  # another's Lease: (resourceVersion, when first seen)
        self._elected = asyncio.Event()

    def is_leader(self, now: float) -> bool:
        """Return whether this replica may act; `now` is of the monotonic clock."""
        return self._renewed_at is not None and now - self._renewed_at < ACT_SECONDS

    def is_standby(self) -> bool:
        """Return whether another replica was last seen to hold the Lease."""
        return self._renewed_at is None and self._other is not None

    async def became_leader(self) -> None:
        """Return the next time that this replica becomes the leader."""
        await self._elected.wait()

    async def run(self, runtime: Runtime) -> None:
        """Acquire and renew the Lease until cancelled.

        A failed or hanging attempt is repeated while the Lease is still valid.
        """
        while True:
            was_leader, succeeded = self.is_leader(runtime.clock()), False
            try:
                async with asyncio.timeout(_RENEWAL_TIMEOUT if was_leader else ACT_SECONDS):
                    await self._acquire_or_renew(runtime)
                succeeded = True
            except (TimeoutError, ApiError) as error:
                log.info("lease %s not renewed: %s; retrying", self._name, error or "timeout")
            leads = self.is_leader(runtime.clock())
            if leads and not was_leader:
                self._elected.set()
                self._elected = asyncio.Event()
            if leads:
                await runtime.sleep(RENEW_SECONDS if succeeded else _RETRY_SECONDS)
            else:
                await runtime.sleep(_STANDBY_POLL_SECONDS)

    async def release(self, runtime: Runtime) -> None:
        """Release the Lease, so that a standby becomes the leader at once. Never raises ApiError."""
        if not self.is_leader(runtime.clock()):
            return
        self._renewed_at = None
        try:
            for _ in range(_RELEASE_ATTEMPTS):
                with contextlib.suppress(ConflictError):  # a renewal that was cancelled has arrived after all
                    await self._clear_holder(runtime)
                    return
        except (TimeoutError, ApiError) as error:
            log.info("lease %s not released: %s; it expires in %d s", self._name, error, DURATION_SECONDS)

    async def _clear_holder(self, runtime: Runtime) -> None:
        lease = await runtime.cluster.get(LEASES, SYSTEM_NAMESPACE, self._name)
        if lease.spec.holder_identity == self._identity:
            spec = msgspec.structs.replace(lease.spec, holder_identity=None)
            body = msgspec.structs.replace(lease, spec=spec)
            await runtime.cluster.replace(LEASES, SYSTEM_NAMESPACE, self._name, body)

    async def _acquire_or_renew(self, runtime: Runtime) -> None:
        now = runtime.clock()
        timestamp = runtime.utc_now().strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        if self._written is not None and self.is_leader(now):
            with contextlib.suppress(ConflictError, NotFoundError):  # written by another replica: read it
                await self._replace(runtime, self._written, now, timestamp)
                return
        self._written = None
        try:
            lease = await runtime.cluster.get(LEASES, SYSTEM_NAMESPACE, self._name)
        except NotFoundError:
            await self._create(runtime, now, timestamp)
            return
        if self._available(lease, now):
            await self._replace(runtime, lease, now, timestamp)
        else:
            self._renewed_at = None

    async def _create(self, runtime: Runtime, now: float, timestamp: str) -> None:
        lease = kube.Lease(
            metadata=Metadata(name=self._name, namespace=SYSTEM_NAMESPACE),
            spec=self._spec(kube.LeaseSpec(), timestamp),
        )
        self._written = await runtime.cluster.create(LEASES, SYSTEM_NAMESPACE, lease)
        self._renewed_at = now

    async def _replace(self, runtime: Runtime, lease: kube.Lease, now: float, timestamp: str) -> None:
        """PUT the Lease as held by this replica.

        `now` is taken before the request, so that the replica never acts longer than allowed.
        """
        body = msgspec.structs.replace(lease, spec=self._spec(lease.spec, timestamp))
        self._written = await runtime.cluster.replace(LEASES, SYSTEM_NAMESPACE, self._name, body)
        self._renewed_at = now

    def _available(self, lease: kube.Lease, now: float) -> bool:
        """Return whether the Lease is ours, released, or was seen unchanged for its whole duration.

        The clocks of others are not trusted.
        """
        if lease.spec.holder_identity in (self._identity, None, ""):
            return True
        version = lease.metadata.resource_version
        if self._other is None or self._other[0] != version:
            self._other = (version, now)
        return now - self._other[1] > DURATION_SECONDS

    def _spec(self, previous: kube.LeaseSpec, timestamp: str) -> kube.LeaseSpec:
        """Return the Lease as renewed or, if it was another replica's, as taken over."""
        ours = previous.holder_identity == self._identity
        transitions = previous.lease_transitions
        return kube.LeaseSpec(
            holder_identity=self._identity,
            lease_duration_seconds=DURATION_SECONDS,
            acquire_time=previous.acquire_time if ours and previous.acquire_time else timestamp,
            renew_time=timestamp,
            lease_transitions=0 if transitions is None else min(transitions + (not ours), _MOST_TRANSITIONS),
        )


async def while_leading(runtime: Runtime, work: Callable[[], Awaitable[None]]) -> None:
    """Run `work` whenever this replica is the leader.

    Cancelled when it no longer is, restarted when it is again. A standby counts as ready: a rolling update
    waits for it.
    """
    while True:
        await _until_leader(runtime)
        task = asyncio.ensure_future(work())
        try:
            while runtime.is_leader() and not task.done():
                await asyncio.wait({task}, timeout=_STANDBY_POLL_SECONDS)
        finally:
            task.cancel()
            await asyncio.wait({task})
        if not task.cancelled():
            task.result()


async def _until_leader(runtime: Runtime) -> None:
    while not runtime.is_leader():
        if runtime.is_standby():
            runtime.set_ready(True)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_STANDBY_POLL_SECONDS):
                await runtime.became_leader()
