"""The image: what its Dockerfile promises, and the program that restarts a service under development."""

import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from flexinfer import backends
from tests.child_process import child
from tests.patience import patient

ROOT = Path(__file__).resolve().parents[3]
DOCKERFILE = (ROOT / "deploy" / "Dockerfile").read_text()
RELOAD = ROOT / "deploy" / "dev" / "reload.py"


def targets() -> list[str]:
    """Return the stages that are images: those without a lower stage's helper name."""
    text = (ROOT / "deploy" / "image" / "build.py").read_text()
    found = re.findall(r"^(?:TARGETS|LARGE) = \((.*?)\)", text, re.DOTALL | re.MULTILINE)
    assert len(found) == 2
    return [name for names in found for name in re.findall(r'"([a-z-]+)"', names)]


def test_the_image_of_a_backend_of_ours_can_be_built() -> None:
    """Its default image is one of the targets, and its code is in it."""
    ours = {
        image.rpartition("/")[2].partition(":")[0]
        for backend in backends.all_backends()
        for image in backend.images.values()
        if "/flexinfer/" in image
    }
    assert ours == {"diffusers-server"}
    assert ours <= {*targets()}
    stage = DOCKERFILE.partition("AS diffusers-server\n")[2].partition("\nFROM")[0]
    assert 'ENTRYPOINT ["python", "-m", "flexinfer.image_server"]' in stage


def test_what_a_stage_copies_reaches_the_build() -> None:
    """`.dockerignore` leaves everything out that it does not name; docker and buildah report that when they come to it, minutes later."""
    rules = (ROOT / ".dockerignore").read_text().split()
    let_through = [rule.removeprefix("!") for rule in rules if rule.startswith("!")]
    copied = [line.split()[1:-1] for line in DOCKERFILE.splitlines() if line.startswith("COPY")]
    mounted = re.findall(r"--mount=type=bind,source=([^,\s]+)", DOCKERFILE)
    sources = [word for words in copied if not words[0].startswith("--from") for word in words]
    sources = [*mounted, *(word.rstrip("/") for word in sources if not word.startswith("--"))]
    assert len(sources) > 10
    below = [s for s in sources if any(s == one or s.startswith(f"{one}/") for one in let_through)]
    assert sorted({*sources} - {*below}) == []
    assert [source for source in sources if not [*ROOT.glob(source)] and "*" not in source] == []


@pytest.mark.parametrize("target", targets())
def test_every_target_is_a_stage_that_is_not_root(target: str) -> None:
    """By itself or by what it is built from."""
    stages = dict(re.findall(r"^FROM (\S+) AS (\S+)$", DOCKERFILE, re.MULTILINE))
    origin = {name: base for base, name in re.findall(r"^FROM (\S+) AS (\S+)$", DOCKERFILE, re.MULTILINE)}
    assert target in origin, stages
    name, users = target, []
    while name in origin:
        body = re.split(rf"^FROM \S+ AS {name}$", DOCKERFILE, flags=re.MULTILINE)[1].split("\nFROM ")[0]
        users += re.findall(r"^USER (\S+)$", body, re.MULTILINE)
        name = origin[name]
    assert users[0] == "65532:65532"


def test_our_code_lies_above_what_it_needs() -> None:
    """In the shipped target the layer of dependencies comes first, so that a change of ours costs the layer of ours."""
    services = DOCKERFILE.index("FROM plain AS services")
    assert "COPY --from=code" in DOCKERFILE[services:]
    assert "/opt/flexinfer" not in DOCKERFILE[services:]


def test_the_base_is_pinned_by_digest_and_nothing_is_a_health_check() -> None:
    """Probes of the Pod do that."""
    assert re.search(r"^ARG BASE=\S+@sha256:[0-9a-f]{64}$", DOCKERFILE, re.MULTILINE)
    assert "HEALTHCHECK" not in DOCKERFILE


@pytest.fixture
def program(tmp_path: Path) -> Iterator["subprocess.Popen[str]"]:
    """Run a service of two lines below the restarting program, in a tree of its own."""
    service = tmp_path / "services" / "toy.py"
    service.parent.mkdir()
    (tmp_path / "shared").mkdir()
    service.write_text(
        "import os, signal\nprint('one', os.environ['FLEXINFER_BUILD'], flush=True)\nsignal.pause()\n"
    )
    text = RELOAD.read_text().replace('Path("/app/', f'Path("{tmp_path}/')
    (tmp_path / "reload.py").write_text(text)
    environment = os.environ | {"PYTHONPATH": str(service.parent), "RELOAD": "1"}
    child = subprocess.Popen(
        [sys.executable, str(tmp_path / "reload.py"), "toy"],
        stdout=subprocess.PIPE, text=True, env=environment,
    )  # fmt: skip
    try:
        yield child
    finally:
        child.terminate()
        child.wait(patient(15))
        assert child.stdout
        child.stdout.close()


def _lines(child: "subprocess.Popen[str]", start: str) -> str:
    """Return the next line that begins so; fails if it does not come."""
    assert child.stdout
    watch = threading.Timer(patient(15), child.kill)
    watch.start()
    try:
        return next(line for line in child.stdout if line.startswith(start)).strip()
    finally:
        watch.cancel()


def test_a_changed_source_is_running_under_another_build(
    program: "subprocess.Popen[str]", tmp_path: Path
) -> None:
    """The development image's entry point, as Tilt's live update uses it."""
    before = _lines(program, "one")
    draft = tmp_path / "toy.new"
    draft.write_text((tmp_path / "services" / "toy.py").read_text().replace("'one'", "'two'"))
    shutil.move(draft, tmp_path / "services" / "toy.py")
    after = _lines(program, "two")
    assert before.split()[1] != after.split()[1]


def test_a_service_that_broke_waits_for_the_next_change(
    program: "subprocess.Popen[str]", tmp_path: Path
) -> None:
    """A typing error does not cost a Pod restart and its back-off."""
    _lines(program, "one")
    source = tmp_path / "services" / "toy.py"
    whole = source.read_text()
    source.write_text("raise SystemExit(3)\n")
    assert "ended with 3" in _lines(program, "reload: ended")
    source.write_text(whole.replace("'one'", "'three'"))
    assert _lines(program, "three")


def test_a_change_of_another_service_restarts_nothing(tmp_path: Path) -> None:
    """Nine services that start at once would take the machine from each other."""
    for name in ("toy", "other"):
        folder = tmp_path / "services" / "flexinfer" / name
        folder.mkdir(parents=True)
        (folder / "__main__.py").write_text(f"import signal\nprint('{name}', flush=True)\nsignal.pause()\n")
    (tmp_path / "shared").mkdir()
    text = RELOAD.read_text().replace('Path("/app/', f'Path("{tmp_path}/')
    (tmp_path / "reload.py").write_text(text)
    environment = os.environ | {"PYTHONPATH": str(tmp_path / "services"), "RELOAD": "1"}
    words = [sys.executable, str(tmp_path / "reload.py"), "flexinfer.toy"]
    with child(words, stdout=subprocess.PIPE, text=True, env=environment) as program:
        _lines(program, "toy")
        (tmp_path / "services/flexinfer/other/__main__.py").write_text("print('changed')\n")
        (tmp_path / "shared" / "common.py").write_text("")
        assert len([_lines(program, "reload:"), _lines(program, "toy")]) == 2
        program.terminate()
        assert program.stdout
        assert "reload:" not in program.stdout.read()


def test_a_job_ends_with_its_own_code(tmp_path: Path) -> None:
    """Nothing is restarted without a request for it."""
    (tmp_path / "job.py").write_text("raise SystemExit(3)\n")
    environment = os.environ | {"PYTHONPATH": str(tmp_path)}
    done = subprocess.run([sys.executable, str(RELOAD), "job"], env=environment, check=False)
    assert done.returncode == 3


def test_a_report_on_an_image_that_is_not_there_says_what_makes_it(tmp_path: Path) -> None:
    """No trace of a program's insides."""
    docker = tmp_path / "docker"
    docker.write_text("#!/bin/sh\n[ \"$1\" = save ] && echo 'No such image' >&2 && exit 1\necho\n")
    docker.chmod(0o755)
    words = (sys.executable, str(ROOT / "deploy" / "image" / "report.py"), "--engine", "docker")
    path = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        words, env={**os.environ, "PATH": path}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "(No such image): `make images` builds it" in done.stderr
    assert "Traceback" not in done.stderr
