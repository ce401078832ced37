"""Tilt on a real node: `tilt ci` succeeds, and a changed source runs without an image build."""

import os
import shutil
import subprocess
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from flexinfer.api.services import SERVICES
from tests.node.cluster import Cluster
from tests.node.images import ROOT
from tests.node.layout import FIRST
from tests.node.product import SYSTEM, Product
from tests.node.waiting import until

PORT = "10360"
COPIED = (
    "Tiltfile",
    "constraints.txt",
    "crds",
    "deploy",
    "examples",
    "pyproject.toml",
    "services",
    "local",
    "shared",
)
_CI_SECONDS, _UP_SECONDS = 420, 240
LAST = ("flexinfer-placer", "fake-gpus", "smollm2-again-healthy")
"""The resources to wait for; not all, because finished Jobs are deleted after a while."""
SETTINGS = ("--gpu=fake", "--models=smollm2,smollm2-again", "--engine=buildah")


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a copy of the sources that a test may edit."""
    folder = tmp_path_factory.mktemp("source")
    ignored = shutil.ignore_patterns("__pycache__")
    for name in COPIED:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, folder / name, ignore=ignored)
        else:
            shutil.copyfile(ROOT / name, folder / name)
    (folder / ".venv").symlink_to(ROOT / ".venv")
    return folder


class Running:
    """Tilt with a copy of the sources, on a cluster."""

    def __init__(self, program: Path, cluster: Cluster, folder: Path) -> None:
        self._program, self._folder = program, folder
        self.environment = {
            **os.environ,
            "KUBECONFIG": str(cluster.layout.kubeconfig()),
            "TILT_DISABLE_ANALYTICS": "1",
        }

    def start(self, log: Path, command: str, *words: str) -> "subprocess.Popen[bytes]":
        """Start a Tilt command with the settings of the Tiltfile; its output goes to the log."""
        with log.open("wb") as file:
            return subprocess.Popen(
                (str(self._program), command, "--port", PORT, *words),
                cwd=self._folder,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
            )

    def settled(self) -> bool:
        """Return whether the resources of LAST are up to date and healthy."""
        return all(self._done(name) for name in LAST)

    def _done(self, resource: str) -> bool:
        words = (str(self._program), "get", "uiresource", resource, "--port", PORT, "-o", "json")
        done = subprocess.run(words, env=self.environment, capture_output=True, check=False)
        status = msgspec.json.decode(done.stdout)["status"] if done.returncode == 0 else {}
        healthy = ("ok", "not_applicable")
        return status.get("updateStatus") == "ok" and status.get("runtimeStatus") in healthy


@pytest.fixture(scope="module")
def running(tilt: Path, product: Product, copy: Path) -> Running:
    """Return Tilt for this cluster, after the product was removed: these tests run last."""
    product.remove()
    return Running(tilt, product.cluster, copy)


def test_tilt_ci_succeeds(running: Running, tmp_path: Path, measured: Callable[[str, float], None]) -> None:
    """Images, manifests, components and Models, from the sources and the downloads of `make images`."""
    began, log = time.monotonic(), tmp_path / "ci.log"
    with running.start(log, "ci") as child:
        code = child.wait(_CI_SECONDS)
    text = log.read_text()
    assert code == 0, text[-4000:]
    assert "SUCCESS. All workloads are healthy." in text
    measured("tilt ci", time.monotonic() - began)


def test_a_changed_source_runs_without_an_image_build(
    running: Running, product: Product, copy: Path, tmp_path: Path, measured: Callable[[str, float], None]
) -> None:
    """The component reports its build; no image is built, no Pod replaced. The time (goal: 3 s) is printed.

    Every container of the image gets the source.
    """
    log = tmp_path / "up.log"
    with running.start(log, "up", "--stream", "--", *SETTINGS) as child:
        try:
            until(running.settled, _UP_SECONDS, "everything is up to date")
            assert product.cluster.object("node", FIRST.name)["status"]["capacity"]["nvidia.com/gpu"] == "2"
            assert "Paris" in product.ask("smollm2-again")
            before, pod = build_of(product), placer(product)
            source = copy / "services/flexinfer/placer/messages.py"
            source.write_text(source.read_text() + "# changed\n")
            began, offset = time.monotonic(), len(log.read_text())
            until(lambda: build_of(product) not in ("", before), 30, "the changed source runs")
            took = time.monotonic() - began
            assert placer(product) == pod
            until(
                lambda: not lagging(product, source.read_text()), 30, "every component has the changed source"
            )
            assert "Building Custom Build" not in log.read_text()[offset:]
        finally:
            child.terminate()
            child.wait(60)
    measured("source saved -> live in its container", took)


def lagging(product: Product, source: str) -> list[str]:
    """Return the components whose container does not have the saved source."""
    command = ("--namespace", SYSTEM, "--", "cat", "/app/services/flexinfer/placer/messages.py")
    return [
        component
        for component in (*SERVICES, "tap")
        if product.cluster.kubectl("exec", workload(component), *command) != source
    ]


def workload(component: str) -> str:
    """Return the workload of a component, as kubectl names it."""
    kind = "daemonset" if component == "agent" else "deployment"
    return f"{kind}/flexinfer-{component}"


def placer(product: Product) -> str:
    """Return the address of the placer's Pod."""
    (pod,) = [p for p in product.pods("placer") if not p["metadata"].get("deletionTimestamp")]
    return str(pod["status"].get("podIP", ""))


def build_of(product: Product) -> str:
    """Return the build that the placer reports; empty while it does not respond."""
    try:
        with urllib.request.urlopen(f"http://{placer(product)}:8081/version", timeout=1) as answer:
            return str(answer.read().decode())
    except OSError:
        return ""
