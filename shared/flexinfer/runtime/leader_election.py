"""Leadership: the Lease that says which replica of a reactor may act.

leaseDuration 6 s, renewed every 2 s, and acting stops 4 s after the last renewal by the monotonic clock: so a paused holder
stops before anybody else may start. What it still has in flight is fenced by resourceVersions, and so is a renewal: it is one PUT of the
Lease as last written, which fails if anybody else has written since; one whose time is over reads first. A replica of the same identity
takes its own Lease at once: under `flexinfer up` the supervisor starts a successor only after it has reaped the former process.
"""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable

import msgspec

from flexinfer.api import kube
from flexinfer.api.installation import SYSTEM_NAMESPACE
from flexinfer.api.model import Metadata
from flexinfer.runtime.kubernetes.api import LEASES, ApiError, ConflictError, NotFoundError
from flexinfer.runtime.runtime import Runtime

log = logging.getLogger(__name__)
DURATION_SECONDS, RENEW_SECONDS, ACT_SECONDS = 6, 2.0, 4.0
_SOON, _AT_ONCE = RENEW_SECONDS / 4, RENEW_SECONDS / 8
_ANSWER_SECONDS = 1.5
"""How long a renewal may take before it is given up for another, which still comes in time."""
_RETURN_TRIES = 3


class LeaderElector:
    """Holds, or waits for, one Lease."""

    def __init__(self, name: str, identity: str) -> None:
        self._name = f"flexinfer-{name}"
        self._identity = f"{name}-{identity}"
        self._renewed: float | None = None
        self._written: kube.Lease | None = None
        self._rival: tuple[str, float] | None = None  # (resourceVersion, when first seen)
        self._gained = asyncio.Event()

    def holds(self, now: float) -> bool:
        """Tell whether this replica may act, by the monotonic clock."""
        return self._renewed is not None and now - self._renewed < ACT_SECONDS

    def is_standby(self) -> bool:
        """Tell whether another replica was last seen to hold the Lease."""
        return self._renewed is None and self._rival is not None

    async def gained(self) -> None:
        """Return the next time that this replica, which might not act before, may act."""
        await self._gained.wait()

    async def keep(self, runtime: Runtime) -> None:
        """Take and renew the Lease for ever; what fails or hangs is tried again soon, while the Lease is still good."""
        while True:
            before, sound = self.holds(runtime.clock()), False
            try:
                async with asyncio.timeout(_ANSWER_SECONDS if before else ACT_SECONDS):
                    await self._round(runtime)
                sound = True
            except (TimeoutError, ApiError) as error:
                log.info("lease %s: %s", self._name, error or "no answer")
            mine = self.holds(runtime.clock())
            if mine and not before:
                self._gained.set()
                self._gained = asyncio.Event()
            await runtime.sleep(_SOON if not mine else RENEW_SECONDS if sound else _AT_ONCE)

    async def give_back(self, runtime: Runtime) -> None:
        """Let the next replica start at once."""
        if not self.holds(runtime.clock()):
            return
        self._renewed = None
        try:
            for _ in range(_RETURN_TRIES):
                with contextlib.suppress(ConflictError):  # a renewal that was cut off has arrived after all
                    await self._return(runtime)
                    return
        except (TimeoutError, ApiError) as error:
            log.info("lease %s not given back: %s", self._name, error)

    async def _return(self, runtime: Runtime) -> None:
        lease = await runtime.cluster.get(LEASES, SYSTEM_NAMESPACE, self._name)
        if lease.spec.holder_identity == self._identity:
            released = msgspec.structs.replace(
                lease, spec=msgspec.structs.replace(lease.spec, holder_identity=None)
            )
            await runtime.cluster.replace(LEASES, SYSTEM_NAMESPACE, self._name, released)

    async def _round(self, runtime: Runtime) -> None:
        asked = runtime.clock()
        stamp = runtime.utc_now().strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        if self._written is not None and self.holds(asked):
            with contextlib.suppress(ConflictError, NotFoundError):  # written by somebody else: read it
                await self._renew(runtime, self._written, asked, stamp)
                return
        self._written = None
        try:
            lease = await runtime.cluster.get(LEASES, SYSTEM_NAMESPACE, self._name)
        except NotFoundError:
            fresh = kube.Lease(
                metadata=Metadata(name=self._name, namespace=SYSTEM_NAMESPACE),
                spec=self._spec(kube.LeaseSpec(), stamp),
            )
            self._written = await runtime.cluster.create(LEASES, SYSTEM_NAMESPACE, fresh)
            self._renewed = asked
            return
        if not self._free(lease, asked):
            self._renewed = None
            return
        await self._renew(runtime, lease, asked, stamp)

    async def _renew(self, runtime: Runtime, lease: kube.Lease, asked: float, stamp: str) -> None:
        renewed = msgspec.structs.replace(lease, spec=self._spec(lease.spec, stamp))
        self._written = await runtime.cluster.replace(LEASES, SYSTEM_NAMESPACE, self._name, renewed)
        self._renewed = asked

    def _free(self, lease: kube.Lease, now: float) -> bool:
        """Tell whether the Lease is ours, given back, or unchanged for its whole duration as we saw it."""
        if lease.spec.holder_identity in (self._identity, None, ""):
            return True
        version = lease.metadata.resource_version
        if self._rival is None or self._rival[0] != version:
            self._rival = (version, now)
        return now - self._rival[1] > DURATION_SECONDS

    def _spec(self, former: kube.LeaseSpec, stamp: str) -> kube.LeaseSpec:
        """Return the Lease renewed, or, if it was another's, taken over."""
        ours = former.holder_identity == self._identity
        changes = former.lease_transitions
        return kube.LeaseSpec(
            holder_identity=self._identity,
            lease_duration_seconds=DURATION_SECONDS,
            acquire_time=former.acquire_time if ours and former.acquire_time else stamp,
            renew_time=stamp,
            lease_transitions=0 if changes is None else changes + (not ours),
        )


async def while_leading(runtime: Runtime, work: Callable[[], Awaitable[None]]) -> None:
    """Do work while this replica holds its Lease: cut off when it does not, begun anew when it does again; for ever.

    One that stands by is as ready as it can be, and a rolling update waits for it to say so.
    """
    while True:
        while not runtime.is_leader():
            if runtime.is_standby():
                runtime.set_ready(True)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_SOON):
                    await runtime.became_leader()
        doing = asyncio.ensure_future(work())
        try:
            while runtime.is_leader() and not doing.done():
                await asyncio.wait({doing}, timeout=_SOON)
        finally:
            doing.cancel()
            await asyncio.wait({doing})
        if not doing.cancelled():
            doing.result()
