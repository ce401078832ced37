"""vLLM's logging: what ends its engine goes to the termination message, and the rest to the log alone."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from flexinfer.api.model import Gpu
from flexinfer.api.placement import Placement
from flexinfer.api.podspec import EnvVar
from flexinfer.backends import vllm, vllm_logging
from flexinfer.backends.base import FILES
from flexinfer.launcher.manifests import LaunchSettings, engine_pod, template
from tests.builders import a_model

PATH = vllm_logging.TERMINATION_LOG


def rendered(*env: tuple[str, str]) -> dict[str, Any]:
    """Return the Pod of a Model with these variables."""
    model = a_model(
        "m",
        backend="vllm",
        source="pvc://c/m",
        gpu=Gpu(vendor="nvidia"),
        placement=Placement(node="a", vendor="nvidia"),
        env=tuple(EnvVar(name=name, value=value) for name, value in env),
    )
    made = template(model, LaunchSettings())
    assert made is not None
    return engine_pod(model, 1, made)


def configuration(pod: dict[str, Any]) -> Any:
    """Return what a kubelet writes into the file that the variable names."""
    (container,) = pod["spec"]["containers"]
    variables = {variable["name"]: variable.get("value") for variable in container["env"]}
    (mount,) = [mount for mount in container["volumeMounts"] if mount["mountPath"] == FILES]
    (volume,) = [volume for volume in pod["spec"]["volumes"] if volume["name"] == mount["name"]]
    (item,) = volume["downwardAPI"]["items"]
    assert variables[vllm_logging.CONFIG_PATH] == f"{FILES}/{item['path']}"
    field = item["fieldRef"]["fieldPath"].removeprefix("metadata.annotations['").removesuffix("']")
    return json.loads(pod["metadata"]["annotations"][field])


PROGRAM = """
import json, logging.config, sys
logging.config.dictConfig(json.load(sys.stdin))
core, workers = (logging.getLogger(f"vllm.v1.{name}") for name in ("engine.core", "executor.multiproc_executor"))
logging.getLogger("vllm.entrypoints.openai").error("a request failed")
core.warning("slow")
workers.info("waits")
try:
    json.loads("{")
except ValueError:
    workers.exception("WorkerProc failed to start.")
core.error("EngineCore failed to start.")
"""


def test_what_ends_the_engine_is_the_termination_message(tmp_path: Path) -> None:
    """In a process that configures its logging as vLLM does; an error of a request is none that ends the engine."""
    kept = tmp_path / "termination"
    text = json.dumps(configuration(rendered())).replace(PATH, str(kept))
    ran = subprocess.run(
        [sys.executable, "-c", PROGRAM], input=text, capture_output=True, text=True, check=True
    )
    lines = kept.read_text().splitlines()
    assert lines[0] == "WorkerProc failed to start."
    assert "JSONDecodeError: " in lines[-2]
    assert lines[-1] == "EngineCore failed to start."
    assert not any(words in kept.read_text() for words in ("a request failed", "slow", "waits"))
    for words in ("a request failed", "slow", "waits", "JSONDecodeError: ", "EngineCore failed to start."):
        assert words in ran.stdout


def test_the_level_that_a_spec_chooses_is_that_of_the_log() -> None:
    """As without a configuration."""
    assert configuration(rendered())["loggers"]["vllm"]["level"] == "INFO"
    assert configuration(rendered(("VLLM_LOGGING_LEVEL", "debug")))["loggers"]["vllm"]["level"] == "DEBUG"


@pytest.mark.parametrize("name", ["VLLM_CONFIGURE_LOGGING", "VLLM_LOGGING_STREAM", "VLLM_LOGGING_PREFIX"])
def test_a_spec_that_chooses_more_of_the_logging_has_its_own(name: str) -> None:
    """Which a configuration would overrule; with VLLM_CONFIGURE_LOGGING=0 vLLM refuses one."""
    pod = rendered((name, "0"))
    (container,) = pod["spec"]["containers"]
    assert vllm_logging.CONFIG_PATH not in {variable["name"] for variable in container["env"]}
    assert not [volume for volume in pod["spec"]["volumes"] if "downwardAPI" in volume]
    assert not [key for key in pod["metadata"]["annotations"] if key.startswith("flexinfer.ai/file.")]


def test_a_spec_cannot_name_a_configuration_itself() -> None:
    """It names classes, which are code."""
    spec = a_model(
        "m",
        backend="vllm",
        source="pvc://c/m",
        gpu=Gpu(vendor="nvidia"),
        env=(EnvVar(name=vllm_logging.CONFIG_PATH, value="/models/m/x.json"),),
    ).spec
    (problem,) = vllm.BACKEND.refuse(spec)
    assert vllm_logging.CONFIG_PATH in problem.message
