"""The bill of materials of an image: the package records of Debian and Python in its layers, as CycloneDX 1.6 in JSON.

It is read from the finished image, so it lists what the image holds and not what a build file says: `build.py build --sbom FOLDER` writes one beside each.
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
        parts = components(records(layers))
    image_itself = Component(name=f"flexinfer/{name}", version=version, type=ComponentType.CONTAINER)
    bom = Bom(components=parts)
    bom.metadata.component = image_itself
    bom.register_dependency(image_itself, parts)
    file.parent.mkdir(parents=True, exist_ok=True)
    output = make_outputter(bom, OutputFormat.JSON, SchemaVersion.V1_6)
    file.write_text(output.output_as_string(indent=1) + "\n")
    return len(parts)


def records(layers: Sequence[Path]) -> dict[str, str]:
    """Return path and text of every package record that the finished image holds: a higher layer replaces and removes."""
    texts: dict[str, str] = {}
    for layer in layers:
        with tarfile.open(fileobj=io.BytesIO(oci.unpacked(layer))) as archive:
            for member in archive:
                path = member.name.removeprefix("./").removeprefix("/")
                _remove(texts, path)
                if member.isfile() and (path == _DEBIAN or _PYTHON.fullmatch(path)):
                    content = archive.extractfile(member)
                    texts[path] = content.read().decode(errors="replace") if content else ""
    return texts


def _remove(texts: dict[str, str], path: str) -> None:
    """Drop what a whiteout of the OCI image format removes: one path with everything below it, or the content of a folder."""
    folder, _, name = path.rpartition("/")
    if not name.startswith(_REMOVED):
        return
    gone = folder if name == _OPAQUE else f"{folder}/{name.removeprefix(_REMOVED)}".lstrip("/")
    for file in [file for file in texts if file == gone or file.startswith(f"{gone}/")]:
        del texts[file]


def components(texts: dict[str, str]) -> list[Component]:
    """Return a component for each package, in order."""
    urls = {
        url for path, text in texts.items() for url in (_debian(text) if path == _DEBIAN else _python(text))
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
