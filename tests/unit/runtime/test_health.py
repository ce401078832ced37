"""What a process says of itself."""

from flexinfer.runtime.health import Health


def test_version_is_the_build_that_runs() -> None:
    """So that who deployed it can tell whether it arrived."""
    assert Health("4f2a").answer("/version") == (200, "4f2a")


def test_alive_at_once_and_ready_when_told() -> None:
    """A process that replays is alive; traffic must wait."""
    health = Health()
    before = health.answer("/healthz"), health.answer("/readyz")
    health.set_ready(True)
    assert before == ((200, "ok"), (503, "not ready: has not seen everything yet"))
    assert health.answer("/readyz") == (200, "ready")


def test_another_path_names_those_there_are() -> None:
    """Nobody has to guess."""
    assert Health().answer("/") == (404, "there is /healthz, /readyz and /version")
