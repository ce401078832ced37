"""A small world for the effects of launcher and arbiter: an API of dictionaries, and a process that can be cut off at any call.

It has what the effects rely on: names are exclusive, another resourceVersion or uid is a conflict, JSON patches test.
"""

import asyncio
import copy
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any, TypeVar

import msgspec

from flexinfer.api.labels import GATE_PREFIX
from flexinfer.api.sharedgroup import SharedGroup
from flexinfer.runtime.kubernetes.api import (
    AlreadyExistsError,
    Change,
    ConflictError,
    InvalidError,
    Kind,
    Listing,
    NotFoundError,
)
from localkube.apiserver.errors import ApiError as ApiServerError
from localkube.apiserver.patch import json_patch, merge_patch

T = TypeVar("T")
Json = dict[str, Any]


class CutOffError(Exception):
    """The process ended at this call."""


class World:
    """The Kubernetes API over dictionaries. `between` runs before each call; `cut` calls later the process dies."""

    def __init__(self) -> None:
        self.things: dict[tuple[str, str, str], Json] = {}
        self.calls: list[str] = []
        self.cut = -1
        self.between: Callable[[str], None] = lambda _call: None
        self.lingering = False
        """Whether a deleted Pod stays, terminating, until `end_pods`."""
        self._count = 100

    # --- what tests do

    def put(self, kind: str, body: Json, namespace: str = "default") -> Json:
        """Write an object, as another client would."""
        body = msgspec.json.decode(msgspec.json.encode(body))
        meta = body.setdefault("metadata", {})
        self._count += 1
        meta.setdefault("uid", f"{kind}-{self._count}")
        meta |= {"namespace": namespace, "resourceVersion": str(self._count)}
        meta.setdefault("generation", 1)
        self.things[kind, namespace, meta["name"]] = body
        return body

    def find(self, kind: str, name: str, namespace: str = "default") -> Json | None:
        """Return an object as it is now."""
        return self.things.get((kind, namespace, name))

    def touch(self, kind: str, name: str, change: Callable[[Json], object]) -> None:
        """Change an object, as another client would."""
        thing = copy.deepcopy(self.things[kind, "default", name])
        change(thing)
        self.put(kind, thing)

    def group(self, group: SharedGroup) -> None:
        """Write a SharedGroup, as the arbiter or another client would."""
        self.put("sharedgroups", msgspec.to_builtins(group))

    def end_pods(self) -> None:
        """Delete every terminating Pod."""
        for key in [k for k, thing in self.things.items() if "deletionTimestamp" in thing["metadata"]]:
            if key[0] == "pods":
                del self.things[key]

    # --- what components do

    async def _step(self, call: str) -> None:
        await asyncio.sleep(0)
        self.calls.append(call)
        if self.cut == 0:
            raise CutOffError(call)
        self.cut -= 1
        self.between(call)

    def _at(self, kind: Kind[Any], namespace: str, name: str) -> Json:
        thing = self.find(kind.plural, name, namespace)
        if thing is None:
            raise NotFoundError(f"{kind.plural} {name} not found", 404)
        return thing

    async def get(self, kind: Kind[T], namespace: str, name: str) -> T:
        """Return one object."""
        await self._step(f"get {kind.plural}")
        return msgspec.convert(self._at(kind, namespace, name), kind.type)

    async def list(
        self, kind: Kind[T], namespace: str = "", *, labels: str = "", fields: str = ""
    ) -> Listing[T]:
        """Return the objects with these labels."""
        assert not fields
        await self._step(f"list {kind.plural}")
        keys = {pair for pair in labels.split(",") if pair and "=" not in pair}
        wanted = dict(pair.split("=") for pair in labels.split(",") if "=" in pair)
        items = [
            msgspec.convert(thing, kind.type)
            for (plural, there, _), thing in self.things.items()
            if plural == kind.plural
            and namespace in ("", there)
            and wanted.items() <= thing["metadata"].get("labels", {}).items()
            and keys <= thing["metadata"].get("labels", {}).keys()
        ]
        return Listing(tuple(items), str(self._count))

    async def watch(self, kind: Kind[T], version: str) -> AsyncIterator[Change[T]]:
        """Yield nothing."""
        nothing: tuple[Change[T], ...] = ()
        for change in nothing:
            yield change

    async def create(self, kind: Kind[T], namespace: str, body: Any) -> T:
        """Create an object."""
        await self._step(f"create {kind.plural}")
        body = msgspec.to_builtins(body)
        if self.find(kind.plural, body["metadata"]["name"], namespace) is not None:
            raise AlreadyExistsError(f"{kind.plural} already exists", 409)
        created = self.put(kind.plural, copy.deepcopy(body), namespace)
        return created if kind.plural == "events" else msgspec.convert(created, kind.type)  # type: ignore[return-value] # read by none

    async def replace(
        self, kind: Kind[T], namespace: str, name: str, body: Any, *, subresource: str = ""
    ) -> T:
        """Replace an object, or its status, if its resourceVersion is the current one."""
        await self._step(f"replace {kind.plural}")
        thing, new = self._at(kind, namespace, name), msgspec.to_builtins(body)
        if new["metadata"]["resourceVersion"] != thing["metadata"]["resourceVersion"]:
            raise ConflictError("modified", 409)
        merged = {**copy.deepcopy(thing), "status": new["status"]} if subresource == "status" else new
        return msgspec.convert(self.put(kind.plural, merged, namespace), kind.type)

    async def apply(
        self, kind: Kind[T], namespace: str, body: Any, *, manager: str, subresource: str = ""
    ) -> T:
        """Write the owner's part of a status."""
        await self._step(f"apply {kind.plural}")
        thing = copy.deepcopy(self._at(kind, namespace, body["metadata"]["name"]))
        if body["metadata"]["resourceVersion"] != thing["metadata"]["resourceVersion"]:
            raise ConflictError("modified", 409)
        status = thing.setdefault("status", {})
        by_type = {c["type"]: c for c in status.get("conditions", [])}
        by_type |= {c["type"]: c for c in body["status"]["conditions"]}
        status |= {**body["status"], "conditions": list(by_type.values())}
        return msgspec.convert(self.put(kind.plural, thing, namespace), kind.type)

    async def patch(
        self, kind: Kind[T], namespace: str, name: str, operations: Sequence[Any], *, subresource: str = ""
    ) -> T:
        """Apply a JSON patch."""
        await self._step(f"patch {kind.plural}")
        thing = copy.deepcopy(self._at(kind, namespace, name))
        try:
            thing = json_patch(thing, list(operations))
        except ApiServerError as error:
            raise InvalidError(error.message, error.code) from error
        if "deletionTimestamp" in thing["metadata"] and not thing["metadata"].get("finalizers"):
            del self.things[kind.plural, namespace, name]
            return msgspec.convert(thing, kind.type)
        return msgspec.convert(self.put(kind.plural, thing, namespace), kind.type)

    async def merge(self, kind: Kind[T], namespace: str, name: str, body: Any) -> T:
        """Apply a merge patch; one that names another uid is a conflict."""
        await self._step(f"merge {kind.plural}")
        current = self._at(kind, namespace, name)
        if body["metadata"].get("uid", current["metadata"]["uid"]) != current["metadata"]["uid"]:
            raise ConflictError("another uid", 409)
        thing = merge_patch(copy.deepcopy(current), body)
        return msgspec.convert(self.put(kind.plural, thing, namespace), kind.type)

    async def delete(
        self,
        kind: Kind[Any],
        namespace: str,
        name: str,
        *,
        uid: str = "",
        version: str = "",
        grace: int | None = None,
    ) -> None:
        """Delete an object by its uid, and by its resourceVersion if one is given."""
        await self._step(f"delete {kind.plural}")
        thing = self.find(kind.plural, name, namespace)
        if thing is None:
            return
        if uid and thing["metadata"]["uid"] != uid:
            raise ConflictError("another uid", 409)
        if version and thing["metadata"]["resourceVersion"] != version:
            raise ConflictError("another resourceVersion", 409)
        if self.lingering and grace != 0:
            thing["metadata"]["deletionTimestamp"] = "2026-11-24T12:00:00Z"
        else:
            del self.things[kind.plural, namespace, name]


def open_gate_of(pod: Json) -> bool:
    """Return whether a Pod's gate is open."""
    return not any(gate["name"].startswith(GATE_PREFIX) for gate in pod["spec"].get("schedulingGates", []))
