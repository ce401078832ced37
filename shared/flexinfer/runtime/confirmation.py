"""Which objects the stream and the API server's own replies disagree about for too long: these are read again, and that read counts.

The stream is behind a reply for milliseconds. What it does not confirm in seconds may never have been so for it: a Model that was
created and deleted while NATS was unavailable, a reply that arrived after the deletion, or an API server that was restored
from a backup to a state that the stream holds already. Nothing would ever correct it.
"""

from collections.abc import Callable, Sequence

import msgspec

from flexinfer.events import events
from flexinfer.events.events import AnyEvent
from flexinfer.runtime.kubernetes.api import MODELS, ApiError
from flexinfer.runtime.refetch import Written, reread
from flexinfer.runtime.runtime import Runtime
from flexinfer.state.observed import ObservedState
from flexinfer.state.precedence import streamed_group, streamed_lease, streamed_object

CONFIRM_SECONDS = 10.0
"""How long the stream has to confirm a reply, and how often what it did not is read."""
_READ_AT_ONCE = 20
"""At most so many objects are read each time: while the watcher is away, everything that is written is unconfirmed."""


class Read(msgspec.Struct, frozen=True):
    """What a read of an object returned, that was observed as `observed` when it began; its key is one of `streamed_versions`."""

    key: str
    observed: Written | None
    events: Sequence[AnyEvent]


class Confirmation:
    """The Models, SharedGroups and GPULeases that replies returned, by how often they were found unconfirmed."""

    def __init__(self) -> None:
        self._replied: dict[str, int] = {}

    def returned(self, event: AnyEvent) -> None:
        """Note an event of a reply."""
        match event:
            case events.ModelObserved(model=model):
                self._note(model.key)
            case events.GroupObserved(group=group):
                self._note(streamed_group(group.metadata.key))
            case events.LeaseObserved(lease=lease):
                self._note(streamed_lease(lease.metadata.key))
            case _:
                return

    def _note(self, key: str) -> None:
        self._replied.setdefault(key, 0)

    def due(self, state: ObservedState) -> list[str]:
        """Return the keys of what to read now: unconfirmed now, and the time before."""
        for key in sorted(state.suppressed):
            self._note(key)
        doubtful = (key for key in self._replied if key in state.suppressed or _is_ahead(state, key))
        self._replied = {key: self._replied[key] + 1 for key in doubtful}
        due = [key for key, times in self._replied.items() if times > 1][:_READ_AT_ONCE]
        for key in due:  # behind the others, and not at the next time
            self._replied.pop(key)
            self._replied[key] = 0
        return due


def _is_ahead(state: ObservedState, key: str) -> bool:
    """Return whether an object is known in a version that the stream has not delivered."""
    current = streamed_object(state, key)
    return current is not None and state.streamed_versions.get(key, -1) < current.metadata.version


async def confirm(
    runtime: Runtime,
    confirmation: Confirmation,
    put: Callable[[Read], None],
    state: Callable[[], ObservedState],
) -> None:
    """Read what the stream does not confirm, at intervals; until cancelled."""
    while True:
        await runtime.sleep(CONFIRM_SECONDS)
        if state().connected_since is not None:
            for key in confirmation.due(state()):
                put(await _read(runtime, state(), key))


async def _read(runtime: Runtime, state: ObservedState, key: str) -> Read:
    """GET an object; its events lead to how it is now, none without an answer."""
    previous = streamed_object(state, key)
    if previous is not None:
        return Read(key, previous, await reread(runtime, previous))
    namespace, _, name = key.partition("/")
    try:
        current = await runtime.cluster.get(MODELS, namespace, name)
    except ApiError:  # also where there is none: the stream says so too, in time
        return Read(key, None, ())
    return Read(key, None, (events.ModelRestored(model=current),))
