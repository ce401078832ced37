"""Command lines that are executed: what a spec holds reaches the process as it was written, by whatever starts it."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest

from flexinfer import backends
from flexinfer.api.model import Gpu, Model
from flexinfer.api.placement import Placement, placed_devices
from flexinfer.launcher.manifests import LaunchSettings, template
from flexinfer.prefetcher.jobs import job
from flexinfer.prefetcher.plan import PrefetchSettings, plan_of
from flexinfer.sources.base import Files
from localkube.kubelet.variable_expansion import expand
from tests.builders import a_model
from tests.unit.backends.keys import a_spec

FREE = {
    "comfyui": "outputDirectory",
    "diffusers": "negativePrompt",
    "llamacpp": "chatTemplate",
    "mlc-llm": "modelLibPath",
    "ollama": "hipVisibleDevices",
    "vllm": "tokenizer",
    "vllm-omni": "tokenizer",
}
"""Backend -> a key that takes any text of one line."""
VALUES = [
    pytest.param("two words  and more", id="spaces"),
    pytest.param('it\'s "quoted" and \\escaped\\', id="quotes"),
    pytest.param("$(touch canary) `touch canary`; touch canary #", id="a command"),
    pytest.param("$POD_IP ${POD_IP} $(POD_IP) $$(POD_IP)", id="variables"),
    pytest.param("a=b --port=1 * ? [a-z] ~", id="options and patterns"),
    pytest.param("\u00e9\u4f60", id="not ASCII"),
]
REFUSED = [
    pytest.param("--port", id="an option"),
    pytest.param("one\ntwo", id="two lines"),
    pytest.param("x\0y", id="NUL"),
    pytest.param("x" * 10**6, id="a megabyte"),
]
_RECORDER = """#!{python}
import json, os, sys
json.dump({{"arguments": sys.argv[1:], "variables": dict(os.environ)}}, open({report!r}, "w"))
"""


def executed(container: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Run a container's command as a kubelet does, in a folder, with a recorder in place of the engine; returns what that was given."""
    report, programs = folder / "report.json", folder / "programs"
    programs.mkdir()
    for name in ("entrypoint", "python", "vllm", "ollama"):
        (programs / name).write_text(_RECORDER.format(python=sys.executable, report=str(report)))
        (programs / name).chmod(0o755)
    values = {"PATH": f"{programs}:{os.environ['PATH']}", "POD_IP": "10.0.0.1", "HOME": str(folder)}
    for entry in container["env"]:
        if "value" in entry:
            values[entry["name"]] = expand(entry["value"], values)
    line = [*container.get("command", ["entrypoint"]), *container["args"]]
    arguments = [
        expand(text, values).replace("/tmp/models.yaml", str(folder / "models.yaml"))  # noqa: S108 -- inside the image
        for text in line
    ]
    subprocess.run(arguments, env=values, cwd=folder, check=True, timeout=60)
    given: dict[str, Any] = json.loads(report.read_text())
    return given


def engine_of(name: str, value: str) -> dict[str, Any]:
    """Return the container of an engine with a text in its config."""
    vendor, architecture = ("amd", "gfx1100") if name == "ollama" else ("nvidia", "sm_86")
    placement = Placement(
        node="a", vendor=vendor, architecture=architecture, devices=placed_devices(["GPU-1"])
    )
    source, config = a_spec(name).source, {FREE[name]: value}
    model = a_model(
        "m", backend=name, source=source, gpu=Gpu(vendor=vendor), config=config, placement=placement
    )
    made = template(model, LaunchSettings())
    assert made is not None
    container: dict[str, Any] = made.spec["containers"][0]
    return container


def test_every_backend_is_executed() -> None:
    """A new one names its key here."""
    assert sorted(FREE) == sorted(backends.names())


@pytest.mark.parametrize("name", FREE)
@pytest.mark.parametrize("value", VALUES)
def test_an_executed_command_gives_the_engine_what_was_written(name: str, value: str, tmp_path: Path) -> None:
    """As one argument or variable, through no shell that reads it (reliability X19)."""
    given = executed(engine_of(name, value), tmp_path)
    texts = [*given["arguments"], *given["variables"].values()]
    assert [text for text in texts if text == value or text.endswith(f"={value}")]
    assert not (tmp_path / "canary").exists()


@pytest.mark.parametrize("name", FREE)
@pytest.mark.parametrize("value", REFUSED)
def test_a_value_that_no_argument_can_hold_is_refused(name: str, value: str) -> None:
    """Before any Pod exists (reliability X19)."""
    backend = backends.find(name)
    assert backend is not None
    assert backend.refuse(a_spec(name, config={FREE[name]: value}))


@pytest.mark.parametrize("value", VALUES)
def test_an_executed_download_is_given_the_patterns_that_were_written(value: str, tmp_path: Path) -> None:
    """Of a list, each as it is (reliability X19)."""
    model: Model = a_model(source="HF://org/repo", config={"hfAllowPatterns": [value, "*.gguf"]})
    plan = plan_of(model, PrefetchSettings(image="ours"))
    assert plan is not None
    manifest = job(model, plan.with_pvc("pvc-1"), PrefetchSettings(image="ours"))
    given = executed(manifest["spec"]["template"]["spec"]["containers"][0], tmp_path)
    files = given["arguments"][given["arguments"].index("--files") + 1]
    assert msgspec.json.decode(files, type=Files).allow == (value, "*.gguf")
    assert not (tmp_path / "canary").exists()
