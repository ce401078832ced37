"""An API server of dictionaries, as much of it as the prefetcher's effects use."""

import copy
from collections.abc import Callable
from typing import Any, TypeVar

import msgspec

from flexinfer.api.model import Model
from flexinfer.runtime.kubernetes.api import AlreadyExistsError, Kind, Listing, NotFoundError

T = TypeVar("T")
Json = dict[str, Any]


class DictCluster:
    """Objects by (plural, name), all in one namespace; `before_create` may raise or change objects."""

    def __init__(self, model: Model) -> None:
        self.objects: dict[tuple[str, str], Json] = {}
        self.deleted: list[tuple[str, str, str]] = []
        self.before_create: Callable[[str], None] = lambda _plural: None
        self._version = 100
        self.put("models", msgspec.to_builtins(model))

    def put(self, plural: str, body: Json) -> Json:
        """Store an object under a new version."""
        self._version += 1
        body = copy.deepcopy(body)
        metadata = body["metadata"]
        metadata.setdefault("uid", f"{plural}-{self._version}")
        metadata |= {"namespace": "default", "resourceVersion": str(self._version)}
        self.objects[plural, metadata["name"]] = body
        return body

    def names(self, plural: str) -> list[str]:
        """Return the names of a kind's objects."""
        return [name for kind, name in self.objects if kind == plural]

    def model(self) -> Model:
        """Return the Model as it is stored."""
        return msgspec.convert(self.objects["models", "llama"], Model)

    async def get(self, kind: Kind[T], _namespace: str, name: str) -> T:
        """Return an object. Raises NotFoundError."""
        if (kind.plural, name) not in self.objects:
            raise NotFoundError(f"{kind.plural} {name} not found", 404)
        return msgspec.convert(self.objects[kind.plural, name], kind.type)

    async def create(self, kind: Kind[T], _namespace: str, body: Json) -> T:
        """Create an object. Raises AlreadyExistsError."""
        if "name" in body["metadata"] and (kind.plural, body["metadata"]["name"]) in self.objects:
            raise AlreadyExistsError(f"{kind.plural} already exists", 409)
        self.before_create(kind.plural)
        return msgspec.convert(self.put(kind.plural, body), kind.type)

    async def list(
        self, kind: Kind[T], _namespace: str = "", *, labels: str = "", fields: str = ""
    ) -> Listing[T]:
        """Return the objects of a kind that have some labels and fields of what they are about, each `name=value`."""
        wanted = dict(pair.split("=") for pair in labels.split(",") if pair)
        about = dict(pair.removeprefix("involvedObject.").split("=") for pair in fields.split(",") if pair)
        bodies = [body for (plural, _), body in self.objects.items() if plural == kind.plural]
        bodies = [body for body in bodies if about.items() <= body.get("involvedObject", {}).items()]
        chosen = [body for body in bodies if wanted.items() <= body["metadata"].get("labels", {}).items()]
        return Listing(items=tuple(msgspec.convert(body, kind.type) for body in chosen), version="1")

    async def merge(self, kind: Kind[T], _namespace: str, name: str, body: Json) -> T:
        """Merge metadata.labels, and the requests of a PVC; a uid must be the object's."""
        stored = self.objects[kind.plural, name]
        assert body["metadata"].get("uid", stored["metadata"]["uid"]) == stored["metadata"]["uid"]
        stored["metadata"].setdefault("labels", {}).update(body["metadata"].get("labels", {}))
        if "spec" in body:
            stored["spec"]["resources"]["requests"] |= body["spec"]["resources"]["requests"]
        return msgspec.convert(self.objects[kind.plural, name], kind.type)

    async def delete(self, kind: Kind[Any], _namespace: str, name: str, *, uid: str = "") -> None:
        """Record a deletion."""
        self.deleted.append((kind.plural, name, uid))

    async def apply(
        self, kind: Kind[T], _namespace: str, body: Json, *, manager: str, subresource: str = ""
    ) -> T:
        """Merge the status of a Model."""
        stored = copy.deepcopy(self.objects[kind.plural, body["metadata"]["name"]])
        status = stored.setdefault("status", {})
        by_type = {c["type"]: c for c in status.get("conditions", ())}
        by_type |= {c["type"]: c for c in body["status"].pop("conditions")}
        stored["status"] = status | body["status"] | {"conditions": list(by_type.values())}
        return msgspec.convert(self.put(kind.plural, stored), kind.type)
