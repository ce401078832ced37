"""A backend is one file: a made-up one, added to a copy of the sources, is accepted, placed, documented, replaceable and started."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from localkube.yaml_documents import documents

ROOT = Path(__file__).resolve().parents[2]
COPIED = ("shared", "services", "crds", "deploy", "docs", "pyproject.toml")
LEFT_OUT = shutil.ignore_patterns("__pycache__", "wheels", "local", "adr", "how-to", "tutorials")
MADE_UP = '''"""Madeup: an engine that only this test knows."""

from flexinfer.backends import base, options

KEYS = {"warp": options.Key(type=options.INTEGER, flag="--warp", least=1, doc="How fast, from 1.")}

BACKEND = base.Backend(
    name="made-up",
    title="Made up",
    aliases=("mdp",),
    port=9000,
    images={base.CPU: "example.org/made-up:1", base.NVIDIA: "example.org/made-up:1-cuda"},
    schemes=("pvc",),
    health="/alive",
    api_paths=base.TEXT_PATHS,
    args=lambda serving: ["--model", serving.path, *options.flags(serving.config, KEYS)],
    config=KEYS,
    unsupported_architectures=(
        base.ArchitectureRule(
            vendor=base.NVIDIA, prefix="sm_7", reason="it needs more", source="https://example.org/gpus"
        ),
    ),
    local_program=base.LocalProgram(program="made-up-server", images=("example.org/made-up:*",)),
)
'''
PROGRAM = """
import json, os, sys
import msgspec
from flexinfer import backends
from flexinfer.api.model import Model
from flexinfer.api.placement import Placement
from flexinfer.events.nodes import Device
from flexinfer.launcher.manifests import engine_pod, template
from flexinfer.launcher.start_settings import settings_of
from flexinfer.placer.requirements import requirements_of
from flexinfer.runtime.settings import load, warnings
from flexinfer.watcher.accepted import accepted

def model(**config):
    return msgspec.convert({
        "apiVersion": "ai.flexinfer/v1alpha2",
        "kind": "Model",
        "metadata": {"name": "m", "namespace": "default", "uid": "u"},
        "spec": {"backend": "mdp", "source": "pvc://c/m", "gpu": {"vendor": "auto"}, "config": config},
        "status": {"placement": {"node": "a", "vendor": "nvidia", "architecture": "sm_86"}},
    }, Model)

need = requirements_of(model())
gpus = {a: Device(uuid="g", vendor="nvidia", architecture=a, total_mb=1) for a in ("sm_75", "sm_86")}
made = template(model(warp=9), settings_of(load(os.environ)))
json.dump({
    "file": backends.__file__,
    "accepted": accepted(model(warp=9)).status,
    "refused": accepted(model(wrap=9)).message,
    "vendors": need.vendors,
    "runs on": [a for a, device in gpus.items() if not need.unsupported_reason(device)],
    "warnings": warnings(os.environ),
    "engine": engine_pod(model(warp=9), 1, made)["spec"]["containers"][0],
    "program": backends.local_programs()["made-up"].program,
}, sys.stdout)
"""

STARTED = """
import asyncio, json, os, sys
from pathlib import Path
from flexinfer.local.images import IMAGES
from localkube.kubelet import container_process
from localkube.kubelet.container_process import Launch

async def exit_code(argv, folder):
    launch = Launch(argv, dict(os.environ), folder / "run", folder, folder / "log")
    process = await container_process.start(launch)
    return await process.ended()

folder = Path(sys.argv[1])
argv = IMAGES.find("example.org/made-up:1").command([], sys.argv[2:])
json.dump([asyncio.run(exit_code(argv, folder)), (folder / "log").read_text()], sys.stdout)
"""


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a copy of the project with one more file, after all generators have run."""
    folder = tmp_path_factory.mktemp("project")
    for name in COPIED:
        path = ROOT / name
        shutil.copytree(path, folder / name, ignore=LEFT_OUT) if path.is_dir() else shutil.copy(path, folder)
    (folder / "shared" / "flexinfer" / "backends" / "madeup.py").write_text(MADE_UP)
    for generator in ("deploy/crd.py", "deploy/render.py", "docs/generate"):
        run(folder, str(folder / generator))
    return folder


@pytest.fixture(scope="module")
def result(tree: Path) -> dict[str, Any]:
    """Return what watcher, placer and launcher make of a Model that names the backend by its alias."""
    found: dict[str, Any] = json.loads(
        run(tree, "-c", PROGRAM, FLEXINFER_IMAGE_MADE_UP_NVIDIA="registry.example/ours:2")
    )
    return found


def run(folder: Path, *arguments: str, **environment: str) -> str:
    """Return what Python prints with the sources of the copied project."""
    path = os.pathsep.join(map(str, (folder / "shared", folder / "services", ROOT / "local")))
    clean = {key: value for key, value in os.environ.items() if not key.startswith("FLEXINFER_")}
    done = subprocess.run(
        [sys.executable, *arguments],
        env=clean | {"PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1"} | environment,
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_definition_accepts_its_name_and_alias(tree: Path) -> None:
    """In every copy of it: the CRD itself, the manifest to install, the chart."""
    for path in ("crds/models.yaml", "deploy/install.yaml", "deploy/chart/crds/models.yaml"):
        written = documents((tree / path).read_text())
        (crd,) = (obj for obj in written if obj["metadata"]["name"] == "models.ai.flexinfer")
        schema = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
        backend = schema["properties"]["spec"]["properties"]["backend"]
        assert {"made-up", "mdp"} <= set(backend["enum"]), path
        assert "made-up (mdp)" in backend["description"]


def test_the_watcher_accepts_it_and_checks_its_config(tree: Path, result: dict[str, Any]) -> None:
    """By its alias, with its own keys."""
    assert Path(result["file"]).is_relative_to(tree)
    assert result["accepted"] == "True"
    assert (
        result["refused"]
        == "spec.config.wrap (9) is not a key of made-up; did you mean warp, an integer of at least 1?"
    )


def test_the_placer_knows_what_it_runs_on(result: dict[str, Any]) -> None:
    """Vendors, and the GPUs that it cannot run on."""
    assert (result["vendors"], result["runs on"]) == (["nvidia"], ["sm_86"])


def test_the_launcher_starts_it_with_the_image_of_the_settings(result: dict[str, Any]) -> None:
    """Its Pod: image, arguments, port, probe; and the variable causes no warning."""
    engine = result["engine"]
    assert result["warnings"] == []
    assert engine["image"] == "registry.example/ours:2"
    assert engine["args"] == ["--model", "/models/m", "--warp", "9"]
    assert (engine["ports"][0]["containerPort"], engine["startupProbe"]["httpGet"]["path"]) == (
        9000,
        "/alive",
    )


def test_the_local_node_finds_its_program(result: dict[str, Any]) -> None:
    """The program and the images that it stands for are in the same file."""
    assert result["program"] == "made-up-server"


def test_the_local_node_starts_it(tree: Path, tmp_path: Path) -> None:
    """Its image is run by its program on PATH, as a process of the kubelet."""
    program = tmp_path / "bin" / "made-up-server"
    program.parent.mkdir()
    program.write_text('#!/bin/sh\necho "serving with $*"\nexit 7\n')
    program.chmod(0o755)
    path = f"{program.parent}{os.pathsep}{os.environ['PATH']}"
    output = run(tree, "-c", STARTED, str(tmp_path), "--model", "/models/m", PATH=path)
    assert json.loads(output) == [7, "serving with --model /models/m\n"]


def test_the_pages_tell_it(tree: Path) -> None:
    """The page of backends and the page of settings."""
    backends = (tree / "docs" / "reference" / "backends.md").read_text().partition("## made-up\n")[2]
    for text in (
        "`mdp`",
        "example.org/made-up:1-cuda",
        "| `warp` | integer, at least 1 |  | `--warp` | How fast",
        "`sm_7*`",
    ):
        assert text in backends
    assert "`FLEXINFER_IMAGE_MADE_UP_NVIDIA`" in (tree / "docs" / "reference" / "settings.md").read_text()
