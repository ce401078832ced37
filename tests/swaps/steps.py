"""What is seen of the swaps of a group: each named step, as the API server reports it, when it does."""

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from flexinfer.api import conditions
from flexinfer.api.groupversion import API_VERSION
from flexinfer.api.labels import MODEL_LABEL
from flexinfer.api.reasons import Reason
from localkube.kubelet.client import connected
from localkube.kubelet.list_watch import list_and_watch

Object = dict[str, Any]
OPENED, FREED = "Opened", "Freed"
_READY = (Reason.DRAINING, Reason.STOPPED, Reason.LOADING, Reason.READY)


class Steps:
    """The steps that were seen, in their order: time (monotonic seconds), Model and step.

    A step is one of the SharedGroup's (Granted, Releasing, Stopped, Freed), `Queued`, `Opened` of the Pod's gate, or what Ready says. `follow` runs
    in a thread until `end`; the file `loading` is touched when an engine was seen to load.
    """

    def __init__(self, kubeconfig: Path, loading: Path) -> None:
        self._kubeconfig, self._loading = str(kubeconfig), loading
        self._seen: list[tuple[float, str, str]] = []
        self._now: dict[tuple[str, str], frozenset[tuple[str, str]]] = {}  # kind and name -> Model and step
        self._wanted: tuple[tuple[str, str], Callable[[], None]] | None = None
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._main()), daemon=True)

    def start(self) -> None:
        """Begin to follow."""
        self._thread.start()

    def end(self) -> None:
        """Follow no more."""
        self._ended.set()
        self._thread.join()

    async def _main(self) -> None:
        following = asyncio.create_task(self._follow())
        await asyncio.to_thread(self._ended.wait)
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)

    def at(self, model: str, step: str, act: Callable[[], None]) -> None:
        """Act once, at the next time that a Model comes to a step."""
        with self._lock:
            self._wanted = ((model, step), act)

    @property
    def acted(self) -> bool:
        """Whether that was done."""
        with self._lock:
            return self._wanted is None

    def since(self, began: float) -> list[str]:
        """Return the steps since a time, as `Model step`."""
        with self._lock:
            return [f"{model} {step}" for at, model, step in self._seen if at >= began]

    async def _follow(self) -> None:
        models = f"/apis/{API_VERSION}/namespaces/default/models"
        groups = f"/apis/{API_VERSION}/namespaces/default/sharedgroups"
        pods = "/api/v1/namespaces/default/pods"
        async with connected(self._kubeconfig) as client, asyncio.TaskGroup() as tasks:
            for path, steps_of in ((models, _of_model), (groups, _of_group), (pods, _of_pod)):
                tasks.create_task(self._watch(client, path, steps_of))

    async def _watch(
        self, client: Any, path: str, steps_of: Callable[[Object], Iterator[tuple[str, str]]]
    ) -> None:
        async for change, obj in list_and_watch(client, path):
            present = frozenset() if change == "DELETED" else frozenset(steps_of(obj))
            key = (path, obj["metadata"]["name"])
            before, self._now[key] = self._now.get(key, frozenset()), present
            if steps_of is _of_group:
                gone = {model for model, _ in before} - {model for model, _ in present}
                present |= {(model, FREED) for model in gone}
            for model, step in sorted(present - before):
                self._note(model, step)

    def _note(self, model: str, step: str) -> None:
        with self._lock:
            self._seen.append((time.monotonic(), model, step))
            if step == f"Ready={Reason.LOADING}":
                self._loading.touch()
            if self._wanted is not None and self._wanted[0] == (model, step):
                self._wanted[1]()
                self._wanted = None


def _of_model(model: Object) -> Iterator[tuple[str, str]]:
    listed = {c["type"]: c["reason"] for c in (model.get("status") or {}).get("conditions") or ()}
    name = model["metadata"]["name"]
    if listed.get(conditions.GRANTED) == Reason.QUEUED:
        yield name, "Queued"
    if listed.get(conditions.READY) in _READY:
        yield name, f"Ready={listed[conditions.READY]}"


def _of_group(group: Object) -> Iterator[tuple[str, str]]:
    for holder in (group.get("status") or {}).get("holders") or ():
        yield holder["model"], holder["step"]


def _of_pod(pod: Object) -> Iterator[tuple[str, str]]:
    if not pod["spec"].get("schedulingGates") and not pod["metadata"].get("deletionTimestamp"):
        yield pod["metadata"].get("labels", {}).get(MODEL_LABEL, ""), OPENED
