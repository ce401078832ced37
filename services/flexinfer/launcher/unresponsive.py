"""An engine that does not answer, or whose node is not ready: whether its process is the one that was Ready. Pure.

`status.backend` remembers it: `loadingStage` that the process was Ready, `restarts` how often its Pod had been restarted by then. No clock
is compared, and the memory outlives the launcher.
"""

from flexinfer.events.workload import PodFacts
from flexinfer.launcher.view import RESTART, ModelView

STAGE = "Unresponsive"
"""`status.backend.loadingStage` of an engine whose process was Ready at this generation, and has not ended since."""


def runs_as_ready(view: ModelView, pod: PodFacts) -> bool:
    """Return whether a Pod runs the process that is Ready at this generation, or was and is not heard; a newer spec has had none yet."""
    was_ready = view.ready.current and view.backend.loading_stage == STAGE
    same_process = pod.running and pod.restarts == view.backend.restarts
    return same_process and (view.ready.serves_spec or was_ready)


def served(view: ModelView) -> bool:
    """Return whether an engine was Ready, at whatever generation, before it was no longer heard."""
    return view.ready.true or view.backend.loading_stage in (RESTART, STAGE)


def remembered_stage(view: ModelView, pod: PodFacts) -> str:
    """Return what is remembered of an engine that is not heard: that its process was Ready, that it may have requests, or nothing."""
    if runs_as_ready(view, pod):
        return STAGE
    return RESTART if served(view) or view.ready.draining else ""
