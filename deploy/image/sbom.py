"""The bill of materials of an image: what Debian's package manager and Python's say of the files in its layers, as CycloneDX 1.6 in JSON.

It is read off the finished image, so it holds what is there and not what a build file meant: `build.py build --sbom FOLDER` writes one beside each.
"""

import email.parser
import io
import re
import tarfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import oci
from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.output import make_outputter
from cyclonedx.schema import OutputFormat, SchemaVersion
from packageurl import PackageURL

_DEBIAN = "var/lib/dpkg/status"
_PYTHON = re.compile(r"(?:.*/)?[^/]+\.dist-info/METADATA")
_REMOVED, _OPAQUE = ".wh.", ".wh..wh..opq"


def write(program: str, image: str, name: str, version: str, file: Path) -> int:
    """Write the bill of an image that was built; returns how many components it names."""
    with oci.layers(program, image) as layers:
        found = components(records(layers))
    image_itself = Component(name=f"flexinfer/{name}", version=version, type=ComponentType.CONTAINER)
    bom = Bom(components=found)
    bom.metadata.component = image_itself
    bom.register_dependency(image_itself, found)
    file.parent.mkdir(parents=True, exist_ok=True)
    made = make_outputter(bom, OutputFormat.JSON, SchemaVersion.V1_6)
    file.write_text(made.output_as_string(indent=1) + "\n")
    return len(found)


def records(layers: Sequence[Path]) -> dict[str, str]:
    """Return path and text of every package record that the finished image holds: a higher layer replaces and removes."""
    found: dict[str, str] = {}
    for layer in layers:
        with tarfile.open(fileobj=io.BytesIO(oci.unpacked(layer))) as archive:
            for member in archive:
                path = member.name.removeprefix("./").removeprefix("/")
                _remove(found, path)
                if member.isfile() and (path == _DEBIAN or _PYTHON.fullmatch(path)):
                    content = archive.extractfile(member)
                    found[path] = content.read().decode(errors="replace") if content else ""
    return found


def _remove(found: dict[str, str], path: str) -> None:
    """Forget what a whiteout of the OCI image format takes away: one path with all below it, or all that a folder held."""
    folder, _, name = path.rpartition("/")
    if not name.startswith(_REMOVED):
        return
    gone = folder if name == _OPAQUE else f"{folder}/{name.removeprefix(_REMOVED)}".lstrip("/")
    for known in [known for known in found if known == gone or known.startswith(f"{gone}/")]:
        del found[known]


def components(found: dict[str, str]) -> list[Component]:
    """Return a component for each package, in order."""
    urls = {
        url for path, text in found.items() for url in (_debian(text) if path == _DEBIAN else _python(text))
    }
    return [_component(url) for url in sorted(urls, key=str)]


def _component(url: PackageURL) -> Component:
    return Component(
        name=url.name, version=url.version, type=ComponentType.LIBRARY, purl=url, bom_ref=url.to_string()
    )


def _debian(status: str) -> Iterator[PackageURL]:
    for stanza in _stanzas(status.split("\n\n")):
        if stanza.get("Status", "").endswith(" installed"):
            where = {"arch": stanza["Architecture"]}
            yield PackageURL("deb", "debian", stanza["Package"], stanza["Version"], where)


def _stanzas(texts: Iterable[str]) -> Iterator["email.message.Message[str, str]"]:
    return (email.parser.HeaderParser().parsestr(text) for text in texts if text.strip())


def _python(metadata: str) -> Iterator[PackageURL]:
    head = email.parser.HeaderParser().parsestr(metadata)
    yield PackageURL("pypi", None, head["Name"].lower().replace("_", "-"), head["Version"])
