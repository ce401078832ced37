"""An Ollama registry on loopback: manifests and layers as Ollama's client asks for them, and the faults of the hub.

The bytes of layers come from another address, as those of registry.ollama.ai do.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tests.integration.prefetcher.hub import GGUF, Cdn, Handler, Hub, digest, listening

MODEL, TAG = "library/tiny", "1b"
TYPE = "application/vnd.docker.distribution.manifest.v2+json"
WEIGHTS = GGUF + b"w" * 500_000


class Registry(Hub):
    """The state of the registry: `files` are layers by their digest."""

    def __init__(self) -> None:
        super().__init__()
        self.files = {}
        self.manifests: dict[tuple[str, str], bytes] = {}
        """The manifest of each model and tag."""
        self.redirects = True
        """Whether the bytes of layers come from the other address."""
        self.add(MODEL, TAG, {"model": WEIGHTS, "template": b"{{ .Prompt }}", "params": b"{}"})

    def add(self, model: str, tag: str, layers: dict[str, bytes]) -> None:
        """Offer a model: layers by the last part of their media type."""
        rootfs = {"type": "layers", "diff_ids": [_name(data) for data in layers.values()]}
        config = json.dumps({"model_format": "gguf", "model_family": "llama", "rootfs": rootfs})
        described = {
            "schemaVersion": 2,
            "mediaType": TYPE,
            "config": self._layer("application/vnd.docker.container.image.v1+json", config.encode()),
            "layers": [self._layer(f"application/vnd.ollama.image.{k}", d) for k, d in layers.items()],
        }
        self.manifests[model, tag] = json.dumps(described).encode()

    def _layer(self, kind: str, data: bytes) -> dict[str, Any]:
        self.files[_name(data)] = data
        return {"mediaType": kind, "digest": _name(data), "size": len(data)}


@contextmanager
def served() -> Iterator[Registry]:
    """Serve a registry and the place of its layers on free ports of loopback."""
    registry = Registry()

    class Main(_Main):
        pass

    class Bytes(Cdn):
        pass

    Main.hub = Main.registry = Bytes.hub = registry
    with listening(Main) as registry.address, listening(Bytes) as registry.cdn:
        try:
            yield registry
        finally:
            registry.holding.set()


class _Main(Handler):
    place = "registry"
    registry: Registry

    def do_GET(self) -> None:  # noqa: N802 -- the name that http.server calls
        """Answer with a manifest or a layer."""
        path = self.note()
        if self.for_cdn:  # as a proxy
            self.send_file(path.rpartition("/")[2])
            return
        repository, kind, name = path.removeprefix("/v2/").rsplit("/", 2)
        if self.registry.status:
            self.reply(self.registry.status, headers={"Retry-After": "7"})
        elif self.registry.token and self.headers.get("Authorization") != f"Bearer {self.registry.token}":
            self.reply(401, b'{"errors": [{"code": "UNAUTHORIZED"}]}')
        elif kind == "manifests":
            self._manifest(repository, name)
        elif name not in self.registry.files:
            self.reply(404, b'{"errors": [{"code": "BLOB_UNKNOWN"}]}')
        elif self.registry.redirects:
            self.reply(307, headers={"Location": f"{self.registry.cdn}/{name}?signature=x"})
        else:
            self.send_file(name)

    def _manifest(self, repository: str, tag: str) -> None:
        body = self.registry.manifests.get((repository, tag))
        if body is None or TYPE not in self.headers.get("Accept", ""):
            self.reply(404, b'{"errors": [{"code": "MANIFEST_UNKNOWN"}]}')
        else:
            self.reply(200, body, {"Content-Type": TYPE})


def _name(data: bytes) -> str:
    return f"sha256:{digest(data)}"
