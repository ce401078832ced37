"""Health: liveness, readiness and version."""

from flexinfer.runtime.health import Health


def test_version_is_the_build_that_runs() -> None:
    """A rollout can be checked."""
    assert Health("4f2a").answer("/version") == (200, "4f2a")


def test_a_process_is_alive_at_once_and_ready_after_its_replay() -> None:
    """While it replays it must not be restarted, and must get no traffic."""
    health = Health()
    before = health.answer("/healthz"), health.answer("/readyz")
    health.set_ready(True)
    assert before == ((200, "ok"), (503, "not ready: the replay of the state stream is not complete"))
    assert health.answer("/readyz") == (200, "ready")


def test_any_other_path_is_answered_with_the_paths() -> None:
    """No documentation is needed."""
    assert Health().answer("/") == (404, "not found; paths are /healthz, /readyz and /version")
