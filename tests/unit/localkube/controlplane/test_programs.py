"""Programs: each is looked for by itself, in a fixed order; what is unfit is passed over aloud; last it is built."""

import os
import threading
from pathlib import Path

import msgspec
import pytest

from localkube.controlplane import catalogue, programs
from localkube.controlplane.programs import ProgramError

ETCD = catalogue.ETCD
GO = """#!/bin/sh
case "$1" in
version) echo "go version go{version} linux/amd64" ;;
build)
  echo built >> "{folder}/builds"
  while [ "$1" != -o ]; do shift; done
  {act}
esac
"""
MAKE = 'printf \'#!/bin/sh\\necho "etcd Version: 3.7.3"\\n\' > "$2"; chmod +x "$2"'


class Machine:
    """A machine with nothing on it but a shell; what was told is in `told`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.told: list[str] = []
        self.path = folder / "path"
        self.cache = folder / "cache"
        self.path.mkdir()
        self.environment = {
            "PATH": f"{self.path}:{os.defpath}",
            "HOME": str(folder),
        }

    def put(self, place: str, version: str, name: str = "etcd") -> Path:
        """Put a program that says a version into a folder of the machine."""
        path = self.folder / place / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f'#!/bin/sh\necho "etcd Version: {version}"\n')
        path.chmod(0o755)
        return path

    def go(self, version: str = "1.26.8", act: str = MAKE) -> None:
        """Put a Go toolchain on PATH."""
        path = self.path / "go"
        path.write_text(GO.format(version=version, folder=self.folder, act=act))
        path.chmod(0o755)

    def locate(self) -> Path:
        """Look for etcd."""
        return programs.locate([ETCD], self.environment, self.told.append, self.cache)["etcd"]

    @property
    def builds(self) -> int:
        """How often the toolchain built something."""
        log = self.folder / "builds"
        return len(log.read_text().splitlines()) if log.exists() else 0


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    """Return an empty machine."""
    return Machine(tmp_path)


def test_the_assets_folder_comes_before_path_and_path_before_the_cache(machine: Machine) -> None:
    """As people who set KUBEBUILDER_ASSETS expect."""
    cached = machine.put(f"cache/etcd-{ETCD.version}", "3.7.3")
    assert machine.locate() == cached
    on_path = machine.put("path", "3.7.0")
    assert machine.locate() == on_path
    machine.environment["KUBEBUILDER_ASSETS"] = str(machine.folder / "assets")
    assert machine.locate() == on_path, "the assets folder lacks it"
    asset = machine.put("assets", "3.6.1")
    assert machine.locate() == asset
    assert "3.6.1 from $KUBEBUILDER_ASSETS" in machine.told[-1]


def test_an_unfit_version_is_passed_over_and_told(machine: Machine) -> None:
    """With the version that is needed."""
    machine.put("path", "2.3.4")
    cached = machine.put(f"cache/etcd-{ETCD.version}", "3.7.3")
    assert machine.locate() == cached
    assert "skipped" in machine.told[0]
    assert "is of version 2.3.4; 3.6 or newer, before 4.0, is needed" in machine.told[0]


def test_what_is_nowhere_is_built_into_the_cache_once(machine: Machine) -> None:
    """By version, so that another release of ours builds its own."""
    machine.go()
    first, second = machine.locate(), machine.locate()
    assert first == second == programs.target(ETCD, machine.cache)
    assert machine.builds == 1
    assert any("built now, kept in the cache" in line for line in machine.told)
    assert "from the cache" in machine.told[-1]


def test_two_who_need_the_same_build_it_once(machine: Machine) -> None:
    """The second waits and takes what the first built."""
    machine.go()
    threads = [threading.Thread(target=machine.locate) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert machine.builds == 1


def test_a_failed_build_says_its_last_words_and_leaves_nothing(machine: Machine) -> None:
    """And what to do instead."""
    machine.go(act='echo half > "$2"; echo "no space left on device" >&2; exit 1')
    with pytest.raises(ProgramError, match="no space left on device") as failed:
        machine.locate()
    assert "put etcd 3.6 on PATH" in str(failed.value)
    folder = programs.target(ETCD, machine.cache).parent
    assert [path.name for path in folder.iterdir()] == ["etcd.lock"]


def test_without_a_fit_toolchain_the_remedy_is_named(machine: Machine) -> None:
    """Never a silent skip; a source that no toolchain of this machine can build is asked for, wherever the usual place is."""
    machine.go(version="1.2.3")
    impossible = msgspec.structs.replace(ETCD, name="none-such", package="example.invalid/none/such")
    with pytest.raises(ProgramError, match="is neither in") as failed:
        programs.locate([impossible], machine.environment, machine.told.append, machine.cache)
    assert "install Go 1.26 or newer" in str(failed.value)
