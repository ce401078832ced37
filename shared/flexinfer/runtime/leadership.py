"""Leadership: the Lease that says which replica of a reactor may act.

leaseDuration 6 s, renewed every 2 s, and acting stops 4 s after the last renewal by the monotonic clock: so a paused holder
stops before anybody else may start. What it still has in flight is fenced by resourceVersions. A replica of the same identity takes its own
Lease at once: under `flexinfer up` the supervisor starts a successor only after it has reaped the former process.
"""

import logging

import msgspec

from flexinfer.contracts import keys, kube
from flexinfer.contracts.model import Metadata
from flexinfer.runtime.api import LEASES, ApiError, NotFoundError
from flexinfer.runtime.runtime import Runtime

log = logging.getLogger(__name__)
DURATION_SECONDS, RENEW_SECONDS, ACT_SECONDS = 6, 2.0, 4.0


class Leadership:
    """Holds, or waits for, one Lease."""

    def __init__(self, name: str, identity: str) -> None:
        self._name = f"flexinfer-{name}"
        self._identity = f"{name}-{identity}"
        self._renewed: float | None = None
        self._rival: tuple[str, float] | None = None  # (resourceVersion, when first seen)

    def holds(self, now: float) -> bool:
        """Tell whether this replica may act, by the monotonic clock."""
        return self._renewed is not None and now - self._renewed < ACT_SECONDS

    async def keep(self, runtime: Runtime) -> None:
        """Take and renew the Lease for ever."""
        while True:
            try:
                await self._round(runtime)
            except ApiError as error:
                log.info("lease %s: %s", self._name, error)
            mine = self.holds(runtime.clock())
            await runtime.sleep(RENEW_SECONDS if mine else RENEW_SECONDS / 4)

    async def give_back(self, runtime: Runtime) -> None:
        """Let the next replica start at once."""
        if not self.holds(runtime.clock()):
            return
        self._renewed = None
        try:
            lease = await runtime.cluster.get(LEASES, keys.SYSTEM_NAMESPACE, self._name)
            if lease.spec.holder_identity == self._identity:
                released = msgspec.structs.replace(
                    lease, spec=msgspec.structs.replace(lease.spec, holder_identity=None)
                )
                await runtime.cluster.replace(LEASES, keys.SYSTEM_NAMESPACE, self._name, released)
        except (TimeoutError, ApiError) as error:
            log.info("lease %s not given back: %s", self._name, error)

    async def _round(self, runtime: Runtime) -> None:
        asked = runtime.clock()
        stamp = runtime.wall().strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        try:
            lease = await runtime.cluster.get(LEASES, keys.SYSTEM_NAMESPACE, self._name)
        except NotFoundError:
            fresh = kube.Lease(
                metadata=Metadata(name=self._name, namespace=keys.SYSTEM_NAMESPACE), spec=self._spec(stamp, 0)
            )
            await runtime.cluster.create(LEASES, keys.SYSTEM_NAMESPACE, fresh)
            self._renewed = asked
            return
        if not self._free(lease, asked):
            self._renewed = None
            return
        changes = (lease.spec.lease_transitions or 0) + (lease.spec.holder_identity != self._identity)
        renewed = msgspec.structs.replace(lease, spec=self._spec(stamp, changes))
        await runtime.cluster.replace(LEASES, keys.SYSTEM_NAMESPACE, self._name, renewed)
        self._renewed = asked

    def _free(self, lease: kube.Lease, now: float) -> bool:
        """Tell whether the Lease is ours, given back, or unchanged for its whole duration as we saw it."""
        if lease.spec.holder_identity in (self._identity, None, ""):
            return True
        version = lease.metadata.resource_version
        if self._rival is None or self._rival[0] != version:
            self._rival = (version, now)
        return now - self._rival[1] > DURATION_SECONDS

    def _spec(self, stamp: str, transitions: int) -> kube.LeaseSpec:
        return kube.LeaseSpec(
            holder_identity=self._identity,
            lease_duration_seconds=DURATION_SECONDS,
            acquire_time=stamp,
            renew_time=stamp,
            lease_transitions=transitions,
        )
