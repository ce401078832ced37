"""What FlexInfer relies on of the server of images, on real diffusers with a random pipeline of 7 MB, on the CPU.

`make test-long` installs it into the user's cache folder, once, and runs these tests; elsewhere they are skipped by name.
"""

import base64
import io
import json
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from PIL import Image

from flexinfer.api.model import Gpu
from flexinfer.backends import diffusers
from flexinfer.backends.checks import IMAGE_CHECKS
from flexinfer.backends.failures import REMEDIES, Kind
from tests.engines.condition import condition
from tests.engines.installed import diffusers_server
from tests.engines.installed.torch_environment import PINNED
from tests.engines.program import GRACE_SECONDS, Make, Program, Stream, seconds
from tests.instance import until
from tests.patience import patient

pytestmark = pytest.mark.slow
IMAGES = "/v1/images/generations"
SMALL: dict[str, Any] = {"prompt": "a cube", "size": "64x64", "num_inference_steps": 2, "seed": 1}
LONG: dict[str, Any] = SMALL | {"num_inference_steps": 900, "size": "128x128", "n": 10, "stream": True}
"""No processor is so fast that these are drawn before a test has looked."""


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the program; skips where diffusers is not to run."""
    return diffusers_server.program(tmp_path_factory.mktemp("programs"))


@pytest.fixture(scope="module")
def pipeline(programs: Path) -> Path:
    """Return the folder of a random pipeline; without the programs there is none that writes it."""
    assert programs.is_dir()
    return diffusers_server.tiny_pipeline()


@pytest.fixture(scope="module")
def make(programs: Path, pipeline: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Make]:
    """Return what makes a server that is not started."""
    folder, made = tmp_path_factory.mktemp("diffusers"), []

    def one(path: Path = pipeline, host: str = "", **fields: Any) -> Program:
        made.append(Program("diffusers", path, folder, host=host, **fields))
        made[-1].environment |= {"OMP_NUM_THREADS": "1", "FINISH_SECONDS": "1"}  # each second of it is drawn
        return made[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FLEXINFER_PROGRAM_DIFFUSERS", str(programs / diffusers_server.PROGRAM))
        yield one
    for program in made:
        program.end()


@pytest.fixture(scope="module")
def loaded(make: Make) -> tuple[Program, list[tuple[int, Any]]]:
    """Return an engine that became ready, and what its health path answered from its start on."""
    program = make().start()
    answers: list[tuple[int, Any]] = []

    def ready() -> bool:
        answers.append(program.ask("/health"))
        return answers[-1][0] == 200

    until(ready, 120, "not ready")
    return program, answers


@pytest.fixture(scope="module")
def terminated(loaded: tuple[Program, list[tuple[int, Any]]]) -> Program:
    """Return an engine that was ready and has ended at SIGTERM."""
    program, _ = loaded
    program.kill(signal.SIGTERM)
    program.code()
    return program


class Offloading(NamedTuple):
    """An engine that is to keep parts of its pipeline outside a GPU, without one; what it drew, and its log until then."""

    program: Program
    images: list[bytes]
    log: str


@pytest.fixture(scope="module")
def offloading(make: Make) -> Offloading:
    """Return an engine that has drawn."""
    program = make()
    program.environment |= {"USE_CPU_OFFLOAD": "true"}
    program.start().ready()
    return Offloading(program, drawn(program), program.log.read_text())


@pytest.fixture(scope="module")
def killed(offloading: Offloading) -> tuple[Program, list[str]]:
    """Return an engine that was killed while it drew, and the events of that stream."""
    program = offloading.program
    stream = Stream(program, IMAGES, LONG)
    next(stream.events(": "))
    program.kill()
    events = list(stream.events())
    program.code()
    return program, events


@pytest.fixture(scope="module")
def restarted(killed: tuple[Program, list[str]], make: Make) -> Program:
    """Return an engine that is ready on the address of the one that was killed."""
    return make(host=killed[0].host).start().ready()


def failed(program: Program) -> str:
    """Wait until a server has ended with an error; returns its last lines."""
    assert program.start().code(patient(120)) not in (0, None)
    return program.last_lines()


def said(program: Program) -> str:
    """Wait until a server has ended with an error; returns the message of its Model."""
    assert failed(program)
    return condition(program)


def drawn(program: Program, **fields: Any) -> list[bytes]:
    """Ask for images and return them."""
    code, answer = program.ask(IMAGES, SMALL | {"model": "m"} | fields)
    assert code == 200, answer
    return [base64.b64decode(image["b64_json"]) for image in answer["data"]]


def opened(image: bytes) -> Image.Image:
    """Read an image."""
    return Image.open(io.BytesIO(image))


class TestImages:
    """One method a check."""

    def test_command_line(self, engine: Program) -> None:
        """It would not be ready otherwise."""
        assert not engine.ended

    def test_no_gpu(self, make: Make) -> None:
        """As with an image whose torch is for another GPU."""
        assert "sees no GPU; use an image" in failed(make(gpu=Gpu(vendor="nvidia")))

    def test_missing_weights(self, make: Make, tmp_path: Path) -> None:
        """The path is in the Model's condition then."""
        assert str(tmp_path / "missing") in failed(make(tmp_path / "missing"))

    def test_cut_weights(self, make: Make, pipeline: Path, tmp_path: Path) -> None:
        """As after a full disk."""
        cut = tmp_path / "cut"
        subprocess.run(["cp", "-r", str(pipeline), str(cut)], check=True)
        (weights,) = (cut / "unet").glob("*.safetensors")
        os.truncate(weights, weights.stat().st_size // 2)
        lines = failed(make(cut))
        assert "unet" in lines
        assert "ends, since its pipeline is broken" in lines

    def test_wrong_weights(self, make: Make, pipeline: Path, tmp_path: Path) -> None:
        """An answer of a hub in place of the folder, say, or of the weights."""
        page = tmp_path / "page"
        page.write_text("<html>not found</html>")
        assert "must be the folder of a diffusers pipeline" in failed(make(page))
        copy = tmp_path / "copy"
        shutil.copytree(pipeline, copy)
        (weights,) = (copy / "unet").glob("*.safetensors")
        weights.write_text("<html>not found</html>")
        message = said(make(copy))
        assert f"{weights.name} is no safetensors file: " in message
        assert 'begin with "<html>not found</html>", a web page' in message
        assert REMEDIES[Kind.BROKEN] in message

    def test_wrong_architecture(self, make: Make, pipeline: Path, tmp_path: Path) -> None:
        """As of a pipeline that is newer than the image."""
        other = tmp_path / "other"
        shutil.copytree(pipeline, other)
        index = json.loads((other / "model_index.json").read_text())
        (other / "model_index.json").write_text(json.dumps(index | {"_class_name": "StableLlamxPipeline"}))
        message = said(make(other))
        assert "StableLlamxPipeline" in message
        assert REMEDIES[Kind.ARCHITECTURE] in message

    def test_out_of_memory(self, engine: Program, make: Make) -> None:
        """Its first image is too large for what it may have: little more than an engine has that drew a small one."""
        status = Path(f"/proc/{engine.process.pid}/status").read_text()
        (peak,) = re.findall(r"VmPeak:\s+(\d+)", status)
        program = make(more={"warmupResolutions": "1024x1024"}, limit_kib=int(peak) + 150_000)
        message = said(program)
        assert re.search(r"can't allocate memory: you tried to allocate \d+ bytes", message)
        assert program.backend.less_memory in message

    def test_last_error(self, make: Make, pipeline: Path, tmp_path: Path) -> None:
        """Without the stack of calls."""
        copy = tmp_path / "copy"
        shutil.copytree(pipeline, copy)
        (weights,) = (copy / "vae").glob("*.safetensors")
        weights.unlink()
        message = said(make(copy))
        assert re.search(r"\(Error: no file named \S+ found in directory \S+/vae\); ", message)
        assert REMEDIES[Kind.MISSING] in message

    def test_port_in_use(self, engine: Program, make: Make) -> None:
        """Two engines on one address."""
        assert "address already in use" in failed(make(host=engine.host))

    def test_loading(self, loaded: tuple[Program, list[tuple[int, Any]]]) -> None:
        """The port is open at once, and says how far it is."""
        program, answers = loaded
        assert {code for code, _ in answers[:-1]} <= {0, 503}
        stages = {body["stage"].partition(";")[0] for code, body in answers if code == 503}
        logged = {line.partition("loading: ")[2] for line in program.log.read_text().splitlines()}
        assert {"importing diffusers", "reading the weights"} <= logged
        assert stages
        assert stages <= logged | {"starting"}

    def test_health(self, engine: Program) -> None:
        """Again and again."""
        assert [engine.healthy() for _ in range(3)] == [True] * 3

    def test_address(self, engine: Program, make: Make) -> None:
        """Another address of this machine is refused."""
        assert make().ask("/health")[0] == 0

    def test_served_name(self, engine: Program) -> None:
        """The one that the proxy writes into each request."""
        assert [model["id"] for model in engine.ask("/v1/models")[1]["data"]] == ["m"]

    def test_generate(self, engine: Program) -> None:
        """Its own size without one."""
        assert [opened(image).size for image in drawn(engine)] == [(64, 64)]
        assert [opened(image).size for image in drawn(engine, size="128x64")] == [(128, 64)]
        assert [opened(image).size for image in drawn(engine, size="auto")] == [(32, 32)]

    def test_count(self, engine: Program) -> None:
        """Each has its own seed."""
        assert len(set(drawn(engine, n=3))) == 3

    @pytest.mark.parametrize("name", ["png", "jpeg", "webp"])
    def test_formats(self, engine: Program, name: str) -> None:
        """By its first bytes."""
        (image,) = drawn(engine, output_format=name)
        assert opened(image).format == name.upper()

    def test_seed(self, engine: Program) -> None:
        """And another one another."""
        assert drawn(engine) == drawn(engine)
        assert drawn(engine) != drawn(engine, seed=2)
        assert drawn(engine) != drawn(engine, negative_prompt="red", guidance_scale=9)

    def test_stream(self, engine: Program) -> None:
        """The steps are comments."""
        steps = [*Stream(engine, IMAGES, SMALL | {"stream": True, "num_inference_steps": 4}).events(": ")]
        assert steps == [f"step {number} of 4" for number in (1, 2, 3, 4)]
        (event,) = Stream(engine, IMAGES, SMALL | {"stream": True}).events()
        assert opened(base64.b64decode(json.loads(event)["b64_json"])).size == (64, 64)

    def test_bad_json(self, engine: Program) -> None:
        """The client's fault."""
        assert engine.ask(IMAGES, raw=b"{no json")[0] == 400

    def test_bad_value(self, engine: Program) -> None:
        """By its name."""
        code, body = engine.ask(IMAGES, SMALL | {"size": "63x64"})
        assert (code, body["error"]["param"]) == (400, "size")

    def test_unknown_path(self, engine: Program) -> None:
        """Which the proxy does not let through anyway."""
        assert engine.ask("/v1/no/such/path", {})[0] == 404

    def test_metrics(self, engine: Program) -> None:
        """What a drain waits for."""
        until(lambda: engine.requests() == 0, 10, "a request is in flight")

    def test_in_flight(self, engine: Program) -> None:
        """While it draws."""
        stream = Stream(engine, IMAGES, LONG)
        next(stream.events(": "))
        assert engine.requests() == 1
        stream.close()

    def test_progress(self, engine: Program) -> None:
        """It continues."""
        stream = Stream(engine, IMAGES, LONG)
        next(stream.events(": "))
        until(lambda: 1 < engine.ask("/health")[1].get("step", 0) < 900, 30, "no step is reported")
        stream.close()

    def test_abort(self, engine: Program) -> None:
        """Nothing is drawn for a client that has gone."""
        stream = Stream(engine, IMAGES, LONG)
        next(stream.events(": "))
        stream.close()
        until(lambda: engine.requests() == 0, 10, "the request continues")

    def test_after_abort(self, engine: Program) -> None:
        """Its thread is free with the next step."""
        stream = Stream(engine, IMAGES, LONG)
        next(stream.events(": "))
        stream.close()
        assert len(drawn(engine)) == 1

    def test_terminate(self, terminated: Program) -> None:
        """Sooner than the kubelet's SIGKILL: `code` waits for no longer."""
        assert terminated.code() == 0

    def test_restart(self, restarted: Program) -> None:
        """As the kubelet does after an end."""
        assert restarted.healthy()

    def test_terminate_stream(self, restarted: Program) -> None:
        """The client learns that there is no image."""
        stream = Stream(restarted, IMAGES, LONG)
        next(stream.events(": "))
        began = time.monotonic()
        restarted.kill(signal.SIGTERM)
        (event,) = stream.events()
        assert json.loads(event)["error"]["code"] == "stopped"
        assert restarted.code(GRACE_SECONDS) == 0
        assert seconds(began) < GRACE_SECONDS

    def test_killed_stream(self, killed: tuple[Program, list[str]]) -> None:
        """As by the kernel, for want of memory."""
        assert killed[1] == []

    def test_release(self, terminated: Program) -> None:
        """No helper process keeps a GPU."""
        until(lambda: not terminated.left(), 5, "processes are left")


def test_what_only_quantization_needs_is_not_imported(engine: Program) -> None:
    """Bitsandbytes, which is installed, takes a second of a start."""
    assert "bitsandbytes" not in Path(f"/proc/{engine.process.pid}/maps").read_text()


def test_more_steps_than_the_scheduler_has_are_refused_by_the_field(engine: Program) -> None:
    """Diffusers ends the first number beyond with an IndexError."""
    most = 1000 - 1  # of the steps that it was trained with, the last one is beyond the offset of the first
    code, body = engine.ask(IMAGES, SMALL | {"num_inference_steps": most + 1})
    assert (code, body["error"]["param"]) == (400, "num_inference_steps")
    assert (
        body["error"]["message"]
        == f"num_inference_steps is {most + 1}, but DDIMScheduler has {most}; ask for at most so many"
    )
    assert len(drawn(engine, num_inference_steps=most, size="8x8")) == 1


@pytest.mark.parametrize(
    ("variable", "value", "sentence"),
    [
        (
            "DEFAULT_NUM_INFERENCE_STEPS",
            "1000",
            "DEFAULT_NUM_INFERENCE_STEPS is 1000, but DDIMScheduler of this pipeline has 999",
        ),
        (
            "QUANTIZATION",
            "nf4",
            "QUANTIZATION is nf4, but bitsandbytes quantises on a GPU alone, and DEVICE is cpu",
        ),
        ("QUANTIZATION", "int8", "QUANTIZATION is int8"),
        ("DEFAULT_SCHEDULER", "Euler", "spec.config.scheduler is Euler; this pipeline takes DDIMScheduler, "),
        (
            "DEFAULT_SCHEDULER",
            "DPMSolverSDEScheduler",
            "spec.config.scheduler is DPMSolverSDEScheduler, which needs torchsde, and this image has none of that; this pipeline takes ",
        ),
    ],
)
def test_what_cannot_work_ends_the_start(make: Make, variable: str, value: str, sentence: str) -> None:
    """As when the server is started by hand: a Model with the last two is not accepted."""
    program = make()
    program.environment |= {variable: value}
    assert sentence in failed(program)


def test_a_scheduler_that_needs_scipy_draws(make: Make) -> None:
    """The image has it."""
    program = make()
    program.environment |= {"DEFAULT_SCHEDULER": "LMSDiscreteScheduler"}
    program.start().ready()
    assert len(drawn(program)) == 1


def test_offloading_on_the_cpu_is_ignored_aloud(offloading: Offloading) -> None:
    """There is nothing to keep elsewhere."""
    assert len(offloading.images) == 1
    assert "USE_CPU_OFFLOAD is ignored" in offloading.log


def test_what_counts_as_proven_names_the_versions_that_ran() -> None:
    """Those that are installed into the cache folder."""
    for name in ("diffusers", "torch"):
        assert f"{name} {PINNED[name]}" in diffusers.BACKEND.proven


def test_every_check_of_images_is_one_of_the_suite_and_has_its_meaning() -> None:
    """At least 25 of them."""
    methods = {name for name in vars(TestImages) if name.startswith("test_")}
    assert {f"test_{name}" for name in IMAGE_CHECKS} == methods
    assert len(IMAGE_CHECKS) >= 25
