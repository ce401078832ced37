"""Images: what stands for an image on this machine."""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from flexinfer import backends
from flexinfer.api.installation import IMAGE
from flexinfer.local.images import IMAGES, engine
from localkube.kubelet.image_runtimes import ImageRuntime, ImageRuntimes, NoProgramError, NoRuntimeError

LLAMA = "ghcr.io/ggml-org/llama.cpp:server-cuda"
OUR_LLAMA = str(Path(sys.executable).with_name("flexinfer-llama-server"))


def installed(*names: str) -> Callable[[str], str | None]:
    """Return a `which` that knows these programs."""
    return lambda name: f"/opt/{name}" if name in names else None


@pytest.mark.parametrize(
    ("image", "programs", "command", "args", "expected"),
    [
        pytest.param(
            LLAMA, ("llama-server",), [], ["-m", "x"], ("/opt/llama-server", "-m", "x"), id="on PATH"
        ),
        pytest.param(LLAMA, (), [], ["-m", "x"], (OUR_LLAMA, "-m", "x"), id="ours"),
        pytest.param(
            LLAMA,
            (),
            ["/app/llama-server"],
            ["-m", "x"],
            (OUR_LLAMA, "-m", "x"),
            id="named",
        ),
        pytest.param(LLAMA, (), ["/bin/sh", "-c", "ls"], [], ("/bin/sh", "-c", "ls"), id="another program"),
        pytest.param(
            f"{IMAGE}:0.1.0",
            (),
            ["python", "-m", "a.b"],
            ["x"],
            (sys.executable, "-m", "a.b", "x"),
            id="our python",
        ),
        pytest.param(
            IMAGE,
            (),
            [],
            ["flexinfer.placer"],
            (sys.executable, "-m", "flexinfer.placer"),
            id="our module",
        ),
        pytest.param("vllm/vllm-openai:v1", ("vllm",), [], ["m"], ("/opt/vllm", "serve", "m"), id="vllm"),
        pytest.param(
            "vllm/vllm-openai:v1",
            ("vllm",),
            ["vllm"],
            ["bench", "m"],
            ("/opt/vllm", "bench", "m"),
            id="vllm's own subcommand",
        ),
        pytest.param("ollama/ollama:1", ("ollama",), [], [], ("/opt/ollama", "serve"), id="ollama's default"),
        pytest.param(
            "ollama/ollama", ("ollama",), ["ollama"], ["pull"], ("/opt/ollama", "pull"), id="ollama's verb"
        ),
        pytest.param("flexinfer.local/process", (), ["true"], [], ("true",), id="as is"),
    ],
)
def test_an_image_is_run_by_its_entry(
    image: str, programs: tuple[str, ...], command: list[str], args: list[str], expected: tuple[str, ...]
) -> None:
    """Command and args as a container runtime would join them."""
    assert IMAGES.find(image, installed(*programs)).command(command, args) == expected


def test_a_fallback_is_looked_for_on_path_when_it_is_not_beside_the_interpreter(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Such as an interpreter of a distribution, whose scripts are in another folder."""
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    runtime = IMAGES.find(LLAMA, installed("flexinfer-llama-server"))
    assert runtime.command([], ["-m", "x"]) == ("/opt/flexinfer-llama-server", "-m", "x")
    with pytest.raises(
        NoProgramError, match=r"llama-server is not on PATH: pip install 'flexinfer\[local\]'"
    ):
        IMAGES.find(LLAMA, installed())


@pytest.mark.parametrize(
    ("image", "remedy"),
    [
        pytest.param("vllm/vllm-openai:v1", "pip install vllm", id="not installed"),
        pytest.param("nginx", "no local runtime for image 'nginx'", id="unknown"),
    ],
)
def test_an_image_without_a_runtime_says_what_to_do(image: str, remedy: str) -> None:
    """A sentence for the container's status."""
    with pytest.raises(NoRuntimeError, match=remedy):
        IMAGES.find(image, installed())


def of_ollama(variables: dict[str, str]) -> ImageRuntimes:
    """Return the table with Ollama's entry, as it is where these variables are set."""
    local = backends.local_programs()["ollama"]
    return ImageRuntimes((ImageRuntime(local.images, engine("ollama", local, variables)),))


def test_a_variable_names_the_program_of_an_engine() -> None:
    """Before PATH; a script that starts it by its name finds it too."""
    table = of_ollama({"FLEXINFER_PROGRAM_OLLAMA": "/opt/new/ollama"})
    runtime = table.find("ollama/ollama:1", lambda name: name if name.startswith("/opt") else None)
    assert runtime.command([], []) == ("/opt/new/ollama", "serve")
    script = runtime.command(["/bin/sh", "-c", "ollama serve"], [])
    assert script[0] == "/usr/bin/env"
    assert script[1].startswith("PATH=/opt/new:")
    assert script[2:] == ("/bin/sh", "-c", "ollama serve")


def test_a_variable_that_names_no_program_is_said_by_its_name() -> None:
    """Nothing else is started in its place."""
    table = of_ollama({"FLEXINFER_PROGRAM_OLLAMA": "/opt/none"})
    with pytest.raises(NoProgramError, match="FLEXINFER_PROGRAM_OLLAMA is /opt/none, which is not a program"):
        table.find("ollama/ollama:1", installed("ollama"))
