"""Health: liveness, readiness and version."""

import asyncio
import re
import resource
from pathlib import Path

import pytest

from flexinfer.runtime import metrics
from flexinfer.runtime.health import Health, publish_port
from flexinfer.runtime.readiness import Readiness
from tests.patience import patient

ROOT = Path(__file__).parents[3]


class Scene:
    """A process of one or more components, on a clock that the test sets."""

    def __init__(self, *names: str, timeout: float | None = 30.0) -> None:
        self.now = 100.0
        self.components = [Readiness(name, lambda: self.now, timeout) for name in names]
        self.health = Health("4f2a", self.components)

    def readyz(self) -> tuple[int, str]:
        """Return what /readyz answers."""
        return self.health.answer("/readyz")


def test_version_is_the_build_that_runs() -> None:
    """A rollout can be checked."""
    assert Scene("placer").health.answer("/version") == (200, "4f2a")


def test_a_process_is_alive_at_once_and_ready_after_its_replay() -> None:
    """While it replays it must not be restarted, and must get no traffic."""
    scene = Scene("placer")
    before = scene.health.answer("/healthz"), scene.readyz()
    scene.components[0].set_ready(True)
    assert before == ((200, "ok"), (503, "not ready: the replay of the state stream is not complete"))
    assert scene.readyz() == (200, "ready")


def test_a_component_that_decides_is_not_ready_once_it_was_blind_for_30_seconds() -> None:
    """It says since when, and is ready again when it sees."""
    scene = Scene("placer")
    placer = scene.components[0]
    placer.set_ready(True)
    placer.report_problem("nats", "NATS is not connected")
    scene.now += 29
    assert scene.readyz() == (200, "ready")
    placer.report_problem("nats", "NATS is not connected")
    scene.now += 12
    assert scene.readyz() == (503, "not ready: NATS is not connected (for 41s)")
    placer.report_problem("nats", None)
    assert scene.readyz() == (200, "ready")


def test_a_component_that_is_not_ready_yet_says_at_once_what_it_waits_for() -> None:
    """A start without NATS is not explained half a minute later."""
    scene = Scene("placer")
    scene.components[0].report_problem("nats", "NATS is not connected")
    assert scene.readyz() == (503, "not ready: NATS is not connected (for 0s)")


def test_a_problem_counts_from_when_the_component_last_saw() -> None:
    """The reader notices that no watermark matches some time after the last one that did."""
    scene = Scene("placer")
    scene.components[0].set_ready(True)
    scene.components[0].report_problem("watermark", "no watermark matches", 65.0)
    assert scene.readyz() == (503, "not ready: no watermark matches (for 35s)")


def test_what_follows_from_a_lost_connection_is_not_named_beside_it() -> None:
    """Without NATS no watermark matches, which goes without saying."""
    scene = Scene("placer")
    for cause in ("nats", "watermark", "storage", "api"):
        scene.components[0].report_problem(cause, f"{cause} is lost")
    assert scene.readyz()[1] == "not ready: api is lost (for 0s); nats is lost (for 0s)"


@pytest.mark.parametrize("seconds", [0, 3600])
def test_a_proxy_stays_ready_however_long_it_is_blind(seconds: float) -> None:
    """Running engines must be reached without NATS and without the API server."""
    scene = Scene("proxy", timeout=None)
    scene.components[0].set_ready(True)
    scene.components[0].report_problem("nats", "NATS is not connected")
    scene.now += seconds
    assert scene.readyz() == (200, "ready")


def test_a_process_of_several_components_says_which_are_not_ready() -> None:
    """What is true of several is said once."""
    scene = Scene("placer", "reaper", "launcher")
    for component in scene.components:
        component.set_ready(True)
    for component in scene.components[:2]:
        component.report_problem("nats", "NATS is not connected")
    scene.now += 31
    assert scene.readyz() == (503, "not ready: NATS is not connected (for 31s) (placer, reaper)")


def test_unexpected_errors_are_counted_and_end_no_readiness() -> None:
    """One Model's poison is no reason to stop serving the others; its key and the log tell where to look."""
    component = Readiness("launcher", lambda: 0.0)
    component.set_ready(True)
    health = Health("build", [component])
    assert health.answer("/readyz") == (200, "ready")
    component.report_failure("default/a", ValueError("not a number"))
    assert health.answer("/readyz") == (
        200,
        "ready; launcher: 1 unexpected error, the last on default/a: see the log",
    )


def test_any_other_path_is_answered_with_the_paths() -> None:
    """No documentation is needed."""
    expected = (404, "not found; paths are /healthz, /readyz, /version and /metrics")
    assert Scene("placer").health.answer("/") == expected


async def test_a_port_is_served_on_a_full_disk_and_written_once_there_is_room(tmp_path: Path) -> None:
    """Else a process that ended could not start again; any other error is one of the settings."""
    file = tmp_path / "proxy.port"
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))
    try:
        publish_port(str(file), 7400)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert not file.exists()
    async with asyncio.timeout(patient(20)):
        while not file.exists():
            await asyncio.sleep(0.01)
    assert file.read_text() == "7400\n"
    with pytest.raises(FileNotFoundError):
        publish_port(str(tmp_path / "none" / "proxy.port"), 7400)


def test_metrics_say_what_readyz_says() -> None:
    """For each component of the process; a cause that no component reports is 0, and not left out."""
    scene = Scene("placer", "reaper")
    placer, reaper = scene.components
    placer.set_ready(True)
    reaper.report_problem("nats", "NATS is not connected")
    scene.now += 12.5
    reaper.report_failure("default/llama", ValueError())
    status, text = scene.health.answer("/metrics")
    lines = text.splitlines()
    assert status == 200
    assert 'flexinfer_build_info{build="4f2a"} 1' in lines
    assert [line for line in lines if line.startswith("flexinfer_ready")] == [
        'flexinfer_ready{component="placer"} 1',
        'flexinfer_ready{component="reaper"} 0',
    ]
    assert 'flexinfer_problem_seconds{component="reaper",cause="nats"} 12.500' in lines
    assert 'flexinfer_problem_seconds{component="placer",cause="nats"} 0' in lines
    assert 'flexinfer_unexpected_errors_total{component="reaper"} 1' in lines


def test_every_cause_of_a_problem_is_in_the_table_of_metrics() -> None:
    """Another one would be a problem that no alert shows."""
    sources = [
        path.read_text() for folder in ("shared", "services") for path in (ROOT / folder).rglob("*.py")
    ]
    reported = {cause for text in sources for cause in re.findall(r'report_problem\(\s*"([^"]*)"', text)}
    assert reported == set(metrics.CAUSES)


def test_each_metric_has_a_name_and_unit_as_prometheus_names_them() -> None:
    """https://prometheus.io/docs/practices/naming/."""
    for metric in metrics.METRICS:
        assert metric.name.startswith("flexinfer_")
        assert metric.name.endswith("_total") == (metric.kind == "counter")
        assert metric.name.endswith(f"_{metric.unit}") == bool(metric.unit)
        assert "\n" not in metric.meaning
