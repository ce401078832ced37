"""A write for one Model never changes its namesake: it has the resourceVersion or uid that it was decided from."""

from collections.abc import Sequence
from typing import Any

from flexinfer.runtime.kubernetes.api import GPU_LEASES, MODELS, SHARED_GROUPS
from localkube.apiserver.watch_cache import Change
from tests.simulation.laws.base import Call, Law


class Identity(Law):
    """Judges what each accepted write was conditional on."""

    kinds = ("models",)

    def written(self, change: Change) -> None:
        """Note which uid a resourceVersion is of."""
        if change.new is not None:
            meta = change.new["metadata"]
            self._uids[str(meta["resourceVersion"])] = meta["uid"]

    def __init__(self, checker: Any) -> None:
        super().__init__(checker)
        self._uids: dict[str, str] = {}

    def called(self, call: Call, answer: Any) -> None:
        """Judge an accepted write."""
        kind, verb, body = call.kind, call.verb, call.body
        if kind is MODELS and verb == "apply":
            meant = self._uids.get(str(body["metadata"].get("resourceVersion", "")))
            if meant is None:
                self.report(
                    f"a status of {answer.key} is written without the resourceVersion that it was decided from"
                )
            elif meant != answer.uid:
                self.report(f"a write for {meant} changed its namesake {answer.uid}")
        elif verb == "patch" and not _tests_identity(body):
            self.report(f"a patch of a {kind.name} tests neither uid nor version")
        elif verb == "replace" and kind is SHARED_GROUPS and not body.metadata.resource_version:
            self.report("a SharedGroup is replaced without its resourceVersion")
        elif verb == "replace" and kind is GPU_LEASES and not body.metadata.resource_version:
            self.report("a GPULease is replaced without its resourceVersion")
        elif verb == "delete" and kind.name == "Pod" and not body["uid"]:
            self.report(f"a {kind.name} is deleted by name alone")


def _tests_identity(operations: Sequence[Any]) -> bool:
    tested = {op["path"] for op in operations if op["op"] == "test"}
    return bool(tested & {"/metadata/uid", "/metadata/resourceVersion"})
