"""Effects by their type. Each reads what it acts on before it acts, and may be cut off at any await: `start`, `stop`, `expose`."""

from collections.abc import Sequence

from flexinfer.events.events import AnyEvent
from flexinfer.launcher.effects import (
    Announce,
    Effect,
    Expose,
    NotCreatedError,
    Protect,
    Relabel,
    RestoreService,
    Start,
    Stop,
)
from flexinfer.launcher.expose import announce, expose, restore_service
from flexinfer.launcher.fence import Fences
from flexinfer.launcher.manifests import LaunchSettings
from flexinfer.launcher.memory import CreationRejected, Fact, ServiceRestored
from flexinfer.launcher.pods_gone import PodsGone
from flexinfer.launcher.restore import protect, relabel
from flexinfer.launcher.start import start
from flexinfer.launcher.status import not_ready
from flexinfer.launcher.stop import stop
from flexinfer.launcher.view import view_of
from flexinfer.runtime.runtime import Runtime
from flexinfer.runtime.status_writer import write_status


async def perform(
    runtime: Runtime, action: Effect, *, settings: LaunchSettings, pod_deletions: PodsGone, fences: Fences
) -> Sequence[AnyEvent | Fact]:
    """Carry out one effect; returns what the API server replied. Raises ApiError."""
    try:
        match action:
            case Start():
                return await start(runtime, action, settings, fences)
            case Stop():
                return await stop(runtime, action, settings, pod_deletions, fences)
            case Expose():
                return await expose(runtime, action, fences)
            case Announce():
                return await announce(runtime, action, fences)
            case RestoreService():
                return await restore_service(runtime, action, settings)
            case Protect():
                return await protect(runtime, action)
            case Relabel():
                return await relabel(runtime, action)
    except NotCreatedError as error:
        rejection = CreationRejected(key=error.model.key, uid=error.model.uid)
        restoration = ServiceRestored(key=error.model.key, uid=error.model.uid)
        write = not_ready(view_of(error.model), settings, error.reason, str(error))
        return [*(await write_status(runtime, write) if write is not None else ()), rejection, restoration]
