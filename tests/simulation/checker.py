"""The invariants, checked at the store with each write, at each request, and by the clock.

* A write for one Model never changes its namesake: it has the resourceVersion or uid that it was decided
  from.
* The holders of a SharedGroup go through the steps of DESIGN 6 in their order, one at a time, and turns only increase.
* A gate is removed only for a Model that exists.
* After the faults have ended, nothing waits past its deadline.
* Every request is sent to an engine of its Model or answered with an error by its deadline; none is dropped.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from flexinfer.api.labels import MODEL_UID_LABEL
from flexinfer.api.model import Model, seconds
from flexinfer.api.sharedgroup import FREED, GRANTED, RELEASING, STOPPED, Holder, SharedGroup
from flexinfer.proxy.gateway import RECONNECT_SECONDS
from flexinfer.runtime.kubernetes.api import MODELS, SHARED_GROUPS, Kind
from localkube.apiserver.watch_cache import Change

_NEXT = {FREED: GRANTED, GRANTED: RELEASING, RELEASING: STOPPED, STOPPED: FREED}
_SLACK = 6.0
"""For the control loop, a change of the leader, and the resync after a loss; in seconds."""
_REQUEST_SLACK = RECONNECT_SECONDS + 0.01
"""If a connection is refused just before the deadline, the gateway waits once more for a new address."""


SERVED = "served"


class _Request(msgspec.Struct):
    """A request for a Model's uid, which must be sent or answered by its deadline."""

    uid: str
    deadline: float
    sent: bool = False
    late: bool = False


class Checker:
    """Checks every write and request.

    `deadlines` is condition type and reason -> the seconds that it may last.
    """

    def __init__(self, clock: Callable[[], float], deadlines: Mapping[tuple[str, str], float]) -> None:
        self._clock, self._deadlines = clock, deadlines
        self._uids: dict[str, str] = {}  # resourceVersion of a Model -> its uid
        self._models: set[str] = set()  # uids of existing Models
        self._waits: dict[str, dict[tuple[str, str], float]] = {}  # uid -> type and reason -> since when
        self._requests: dict[int, _Request] = {}  # number -> a request without a response
        self._sums = hashlib.sha256()
        self.problems: list[str] = []

    @property
    def digest(self) -> str:
        """A hash of all writes with their times: the same for the same seed."""
        return self._sums.hexdigest()

    def _report(self, what: str) -> None:
        self.problems.append(f"{what} at {self._clock():.3f}")

    # --- the store

    def written(self, change: Change) -> None:
        """Check the change that a write made."""
        self._sums.update(
            f"{self._clock():.6f} {change.revision} {change.group_resource} {change.key}\n".encode()
        )
        match change.group_resource[1]:
            case "models":
                self._model(change)
            case "sharedgroups":
                self._group(change)
            case "pods":
                self._pod(change)
            case _:
                return

    def _model(self, change: Change) -> None:
        if change.new is None:
            if change.old is not None:
                self._models.discard(change.old["metadata"]["uid"])
                self._waits.pop(change.old["metadata"]["uid"], None)
            return
        meta = change.new["metadata"]
        self._models.add(meta["uid"])
        self._uids[str(meta["resourceVersion"])] = meta["uid"]
        self._wait(change.new)

    def _group(self, change: Change) -> None:
        if change.new is None or change.old is None:
            return
        old, new = (msgspec.convert(body, SharedGroup) for body in (change.old, change.new))
        if not old.initialized or not new.initialized:
            return  # at the first look, holders are found as they are
        if new.status.turn < old.status.turn:
            self._report(f"the highest turn of {new.name} fell from {old.status.turn} to {new.status.turn}")
        before = {holder.uid: holder for holder in old.status.holders}
        after = {holder.uid: holder for holder in new.status.holders}
        for uid in before.keys() | after.keys():
            self._step(new.name, before.get(uid), after.get(uid), old.status.turn)
        if after.keys() - before.keys() and before:
            self._report(f"{new.name} is granted while {len(before)} hold it")

    def _step(self, group: str, old: Holder | None, new: Holder | None, highest: int) -> None:
        left, right = (old.step if old else FREED), (new.step if new else FREED)
        turns = (old.turn if old else highest + 1, new.turn if new else old.turn if old else 0)
        if right not in (left, _NEXT[left]) or turns[0] != turns[1]:
            self._report(f"{group} went from {left} of turn {turns[0]} to {right} of turn {turns[1]}")

    def _pod(self, change: Change) -> None:
        old, new = change.old, change.new
        if old is None or new is None or not old["spec"].get("schedulingGates"):
            return
        uid = new["metadata"]["labels"].get(MODEL_UID_LABEL, "")
        if not new["spec"].get("schedulingGates") and uid not in self._models:
            self._report(f"the gate of {change.key[1]} was removed for a Model that does not exist")

    # --- the calls of components

    def sent(self, verb: str, kind: Kind[Any], body: Any, answer: Any) -> None:
        """Check a write of a component that the API server accepted."""
        if kind is MODELS and verb == "apply":
            meant = self._uids.get(str(body["metadata"].get("resourceVersion", "")))
            if meant is None:
                self._report(
                    f"a status of {answer.key} is written without the resourceVersion that it was decided from"
                )
            elif meant != answer.uid:
                self._report(f"a write for {meant} changed its namesake {answer.uid}")
        elif verb == "patch" and not _tests_identity(body):
            self._report(f"a patch of a {kind.name} tests neither uid nor version")
        elif verb == "replace" and kind is SHARED_GROUPS and not body["metadata"].get("resourceVersion"):
            self._report("a SharedGroup is replaced without a resourceVersion")
        elif verb == "delete" and not body["uid"]:
            self._report(f"a {kind.name} is deleted by name alone")

    # --- the proxy's requests

    @property
    def open_requests(self) -> int:
        """The number of requests without a response."""
        return len(self._requests)

    def request_received(self, number: int, model: Model) -> None:
        """Note a request for a Model; numbers are unique."""
        budget = seconds(model.spec.serverless.cold_start_timeout)
        self._requests[number] = _Request(model.uid, self._clock() + budget)

    def request_sent(self, number: int, engine_uid: str) -> None:
        """Check where and when a request is sent.

        `engine_uid` is the Model that the engine was started for.
        """
        request = self._requests[number]
        if engine_uid != request.uid:
            self._report(f"a request for {request.uid} was sent to an engine of {engine_uid}")
        self._on_time(request, "sent")
        request.sent = True

    def request_ended(self, number: int, outcome: str) -> None:
        """Check the response to a request."""
        self._sums.update(f"{self._clock():.6f} request {number} {outcome}\n".encode())
        request = self._requests.pop(number, None)
        if request is None:
            return  # it was not routed to a Model
        if not request.sent:
            self._on_time(request, f"answered with {outcome}")
        if outcome == SERVED and not request.sent:
            self._report(f"a request for {request.uid} was served without an engine")

    def _on_time(self, request: "_Request", what: str) -> None:
        late = self._clock() - request.deadline
        if late > _REQUEST_SLACK and not request.late:
            request.late = True
            self._report(f"a request for {request.uid} was {what} {late:.1f} s after its deadline")

    def _overdue(self) -> None:
        for request in self._requests.values():
            if not request.sent:
                self._on_time(request, "not answered")

    # --- the clock

    def _wait(self, model: Any) -> None:
        """Note what a Model waits for from now on."""
        uid = model["metadata"]["uid"]
        reasons = {(c["type"], c["reason"]) for c in (model.get("status") or {}).get("conditions") or ()}
        previous = self._waits.get(uid, {})
        self._waits[uid] = {
            wait: previous.get(wait, self._clock()) for wait in sorted(reasons & set(self._deadlines))
        }

    def restart_waits(self) -> None:
        """Restart the time of every wait: a fault may have restarted it, as a new leader does."""
        for waits in self._waits.values():
            waits.update(dict.fromkeys(waits, self._clock()))

    def check_waits(self) -> None:
        """Check how long each Model and each request waits."""
        self._overdue()
        for uid, waits in self._waits.items():
            for (kind, reason), since in waits.items():
                waited = self._clock() - since
                if waited > self._deadlines[kind, reason] + _SLACK:
                    self._report(f"the Model {uid} has been {kind}/{reason} for {waited:.0f} s")
                    waits[kind, reason] = self._clock()


def _tests_identity(operations: Sequence[Any]) -> bool:
    tested = {op["path"] for op in operations if op["op"] == "test"}
    return bool(tested & {"/metadata/uid", "/metadata/resourceVersion"})
