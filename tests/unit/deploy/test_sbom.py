"""The bill of materials: what the layers of an image hold in the end, by the records that package managers keep in it."""

import importlib
import io
import json
import tarfile
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType

import pytest
from cyclonedx.model.bom import Bom

TOOLS = Path(__file__).resolve().parents[3] / "deploy" / "image"
STATUS = """Package: python3
Status: install ok installed
Architecture: amd64
Version: 3.11.2-1+b1

Package: half
Status: deinstall ok config-files
Architecture: amd64
Version: 1
"""
MSGSPEC = "opt/flexinfer/lib/python3.11/site-packages/msgspec-0.22.0.dist-info/METADATA"
NKEYS = "opt/flexinfer/lib/python3.11/site-packages/nkeys-0.2.1.dist-info/METADATA"


def metadata(name: str, version: str) -> str:
    """Return a package's own record, as a wheel carries it."""
    return f"Metadata-Version: 2.4\nName: {name}\nVersion: {version}\n\nName: of a readme\n"


@pytest.fixture
def sbom(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Return the program, which is not part of a package."""
    monkeypatch.syspath_prepend(str(TOOLS))
    return importlib.import_module("sbom")


def layer(folder: Path, name: str, files: Mapping[str, str]) -> Path:
    """Write a layer, as a registry keeps it: a packed tar."""
    path = folder / name
    with tarfile.open(path, "w:gz") as archive:
        for member, text in files.items():
            told = tarfile.TarInfo(member)
            told.size = len(text.encode())
            archive.addfile(told, io.BytesIO(text.encode()))
    return path


def urls(sbom: ModuleType, *layers: Path) -> list[str]:
    """Return the packages by their urls."""
    return [str(component.purl) for component in sbom.components(sbom.records(layers))]


def test_it_names_what_debian_and_python_have_installed(sbom: ModuleType, tmp_path: Path) -> None:
    """A package that was removed and left its settings is not there."""
    made = layer(tmp_path, "one", {"./var/lib/dpkg/status": STATUS, MSGSPEC: metadata("msgspec", "0.22.0")})
    assert urls(sbom, made) == ["pkg:deb/debian/python3@3.11.2-1%2Bb1?arch=amd64", "pkg:pypi/msgspec@0.22.0"]


def test_a_higher_layer_replaces(sbom: ModuleType, tmp_path: Path) -> None:
    """The image has the last of several files of one name."""
    lower = layer(tmp_path, "lower", {MSGSPEC: metadata("msgspec", "0.22.0")})
    higher = layer(tmp_path, "higher", {MSGSPEC: metadata("msgspec", "0.22.1")})
    assert urls(sbom, lower, higher) == ["pkg:pypi/msgspec@0.22.1"]


@pytest.mark.parametrize(
    ("whiteout", "left"),
    [
        (f"{MSGSPEC.rpartition('/')[0]}/.wh.METADATA", ["pkg:pypi/nkeys@0.2.1"]),
        ("opt/flexinfer/lib/python3.11/site-packages/.wh.msgspec-0.22.0.dist-info", ["pkg:pypi/nkeys@0.2.1"]),
        ("opt/flexinfer/lib/.wh..wh..opq", []),
        (".wh.opt", []),
    ],
)
def test_a_higher_layer_removes(sbom: ModuleType, tmp_path: Path, whiteout: str, left: list[str]) -> None:
    """By the whiteouts of the OCI image format: of a file, of a folder, of all that a folder held."""
    lower = layer(
        tmp_path, "lower", {MSGSPEC: metadata("msgspec", "0.22.0"), NKEYS: metadata("nkeys", "0.2.1")}
    )
    assert urls(sbom, lower, layer(tmp_path, "higher", {whiteout: ""})) == left


def test_it_is_written_as_cyclonedx(
    sbom: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Out of an OCI layout, and read again by the format's own library."""
    blobs = tmp_path / "layout" / "blobs" / "sha256"
    blobs.mkdir(parents=True)
    layer(blobs, "aa", {MSGSPEC: metadata("msgspec", "0.22.0")})
    (blobs / "bb").write_text(json.dumps({"layers": [{"digest": "sha256:aa"}]}))
    (tmp_path / "layout" / "index.json").write_text(json.dumps({"manifests": [{"digest": "sha256:bb"}]}))
    buildah = tmp_path / "bin" / "buildah"
    buildah.parent.mkdir()
    buildah.write_text(f'#!/bin/sh\nfor last; do :; done\ncp -r {tmp_path}/layout/. "${{last#oci:}}"\n')
    buildah.chmod(0o755)
    monkeypatch.setenv("PATH", f"{buildah.parent}:/usr/bin:/bin")
    file = tmp_path / "sbom" / "services.cdx.json"
    assert sbom.write("buildah", "localhost/flexinfer/services:latest", "services", "0.1.0-3-gabc", file) == 1
    told = json.loads(file.read_text())
    assert (told["bomFormat"], told["specVersion"]) == ("CycloneDX", "1.6")
    bom = Bom.from_json(told)  # type: ignore[attr-defined] # added by the library's own decorator
    assert [str(one.purl) for one in bom.components] == ["pkg:pypi/msgspec@0.22.0"]
    assert bom.metadata.component.name == "flexinfer/services"
