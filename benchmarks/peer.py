"""The peer of row 6: one process that does the work of all components.

It creates the same objects from the same manifests, writes the same conditions in the same order by the same
server-side applies, posts the same Events in the background, and waits for the same things: the end of the
Job, the address of the Pod, the health of the engine at the same intervals. It omits the cost of
distribution: NATS, hints, reads that guard against another writer, and `phase`, which is not on the critical
path either.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Mapping
from typing import Any

from flexinfer import backends
from flexinfer.api import conditions
from flexinfer.api.groupversion import API_VERSION, KIND
from flexinfer.api.labels import RUNNING_FINALIZER
from flexinfer.api.model import Model
from flexinfer.api.reasons import Reason
from flexinfer.api.services import OWNERS, STATUS_FIELDS
from flexinfer.events.workload import pod_facts
from flexinfer.launcher import manifests
from flexinfer.launcher import start_settings as launching
from flexinfer.launcher.engine_client import Ask, http_client
from flexinfer.launcher.probe import loading_interval
from flexinfer.prefetcher import jobs
from flexinfer.prefetcher import perform as prefetching
from flexinfer.prefetcher.plan import plan_of
from flexinfer.runtime.kubernetes.api import CLAIMS, EVENTS, JOBS, MODELS, PODS, SERVICES, Kind, NotFoundError
from flexinfer.runtime.kubernetes.client import KubernetesClient, connected
from flexinfer.runtime.settings import Settings

NAMESPACE = "default"
PLAIN: Kind[Any] = Kind(MODELS.api_version, MODELS.name, MODELS.plural, dict)
_SETTINGS = Settings()
_TIMEOUT = 60.0


class Peer:
    """The process, with one API server.

    It writes `status`, which is that of a Model that the components brought to Ready.
    """

    def __init__(
        self, cluster: KubernetesClient, ask: Ask, status: Mapping[str, Any], claim_uid: str
    ) -> None:
        self._cluster, self._ask, self._status, self._claim_uid = cluster, ask, status, claim_uid
        self._changed = asyncio.Event()
        self._seen: dict[tuple[str, str], Any] = {}
        self._background: set[asyncio.Task[Any]] = set()

    async def follow(self, kind: Kind[Any], version: str) -> None:
        """Keep the latest version of each object of a kind; does not return."""
        async for change in self._cluster.watch(kind, version):
            if change.object is not None:
                self._seen[kind.plural, change.object.metadata.name] = change.object
                self._changed.set()

    async def converge(self, body: dict[str, Any]) -> None:
        """Bring a Model from its POST to Ready."""
        model = await self._cluster.create(MODELS, NAMESPACE, body)
        model = await self._write_condition(model, conditions.ACCEPTED)
        model = await self._write_condition(model, conditions.PLACED)
        settings = prefetching.settings_of(_SETTINGS)
        plan = plan_of(model, settings)
        if plan is None:
            raise SystemExit("peer: this Model cannot be planned")
        plan = plan.with_pvc(self._claim_uid)
        job = jobs.job(model, plan, settings)
        await self._cluster.create(JOBS, NAMESPACE, job)
        model = await self._write_condition(model, conditions.CACHED, ("False", Reason.CHECKING))
        model = await self._write_condition(model, conditions.WANTED, ("False", "FirstStartQueued"))
        model = await self._write_condition(model, conditions.GRANTED)
        await self._cluster.create(SERVICES, NAMESPACE, manifests.service(model, self._launch_settings))
        model = await self._write_condition(model, conditions.READY, ("False", Reason.NOT_STARTED))
        await self._until(lambda: _complete(self._seen.get(("jobs", plan.job_name(model)))))
        model = await self._write_condition(model, conditions.CACHED)
        self._spawn(self._cluster.delete(JOBS, NAMESPACE, plan.job_name(model)))
        model = await self._write_condition(model, conditions.WANTED, ("True", "FirstStart"))
        await self._run(await self._start(model))

    @property
    def _launch_settings(self) -> manifests.LaunchSettings:
        return launching.settings_of(_SETTINGS)

    async def _start(self, model: Model) -> Model:
        """Add the finalizer, create the Pod, read the Model, and remove the scheduling gate."""
        pod_template = manifests.template(model, self._launch_settings)
        if pod_template is None:
            raise SystemExit("peer: this Model has no template")
        meta = model.metadata
        finalizer = [
            {"op": "test", "path": "/metadata/uid", "value": meta.uid},
            {"op": "add", "path": "/metadata/finalizers", "value": [RUNNING_FINALIZER]},
        ]
        _, pod = await asyncio.gather(
            self._cluster.patch(MODELS, NAMESPACE, meta.name, finalizer),
            self._cluster.create(PODS, NAMESPACE, manifests.engine_pod(model, 0, pod_template)),
        )
        current = await self._cluster.get(MODELS, NAMESPACE, meta.name)
        opened = [
            {"op": "test", "path": "/metadata/uid", "value": pod.metadata.uid},
            {"op": "test", "path": "/spec/schedulingGates/0/name", "value": manifests.gate(0)},
            {"op": "remove", "path": "/spec/schedulingGates/0"},
        ]
        await self._cluster.patch(PODS, NAMESPACE, pod.metadata.name, opened)
        return current

    async def _run(self, model: Model) -> None:
        """Wait for the engine and write Ready; Starting and Loading are written in the background."""
        name = model.pod_name
        loading = asyncio.create_task(self._loading(model, name))
        await self._until(lambda: self._address(name))
        backend = backends.find(model.spec.backend)
        if backend is None:
            raise SystemExit("peer: no such backend")
        url = f"http://{self._address(name)}:{backend.port}{backend.health}"
        began = time.monotonic()
        while not (await self._ask(url)).good:
            await asyncio.sleep(loading_interval(time.monotonic() - began))
        await self._write_condition(await loading, conditions.READY)

    async def _loading(self, model: Model, pod: str) -> Model:
        model = await self._write_condition(model, conditions.READY, ("False", Reason.STARTING))
        await self._until(lambda: self._address(pod))
        return await self._write_condition(model, conditions.READY, ("False", Reason.LOADING))

    def _address(self, pod: str) -> str:
        seen = self._seen.get(("pods", pod))
        return pod_facts(seen).ip if seen is not None else ""

    async def _write_condition(self, model: Model, kind: str, other: tuple[str, str] | None = None) -> Model:
        """Write a condition of the sample status, or with other values, and post an Event in the background."""
        condition = dict(next(c for c in self._status["conditions"] if c["type"] == kind))
        if other is not None:
            condition["status"], condition["reason"] = other
        owner = OWNERS[kind]
        fields = {
            name: self._status[name]
            for name in STATUS_FIELDS[owner]
            if name in self._status and name != "phase"
        }
        meta = model.metadata
        written = await self._cluster.apply(
            MODELS,
            NAMESPACE,
            {
                "apiVersion": API_VERSION,
                "kind": KIND,
                "metadata": {"name": meta.name, "resourceVersion": meta.resource_version},
                "status": {**fields, "conditions": [condition]},
            },
            manager=f"peer-{owner}",
            subresource="status",
        )
        self._spawn(self._cluster.create(EVENTS, NAMESPACE, _event(written, condition, owner)))
        return written

    async def _until(self, predicate: Any) -> None:
        async with asyncio.timeout(_TIMEOUT):
            while not predicate():
                self._changed.clear()
                await self._changed.wait()

    def _spawn(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)

    async def clear(self, name: str) -> None:
        """Delete a Model, engine first."""
        await asyncio.gather(*self._background)
        await self._cluster.delete(PODS, NAMESPACE, f"{name}-0")
        await self._gone(PODS, f"{name}-0")
        await self._cluster.merge(PLAIN, NAMESPACE, name, {"metadata": {"finalizers": None}})
        await self._cluster.delete(MODELS, NAMESPACE, name)
        await self._gone(MODELS, name)

    async def _gone(self, kind: Kind[Any], name: str) -> None:
        async with asyncio.timeout(_TIMEOUT):
            with contextlib.suppress(NotFoundError):
                while await self._cluster.get(kind, NAMESPACE, name):
                    await asyncio.sleep(0.05)


@contextlib.asynccontextmanager
async def peer(kubeconfig: str, status: Mapping[str, Any]) -> AsyncIterator[Peer]:
    """Run the peer with its client and its two watches."""
    async with connected(kubeconfig) as cluster, http_client() as ask:
        claim = await cluster.get(CLAIMS, NAMESPACE, "models")
        peer_process = Peer(cluster, ask, status, claim.metadata.uid)
        kinds: tuple[Kind[Any], ...] = (JOBS, PODS)
        watches = [
            asyncio.create_task(peer_process.follow(kind, (await cluster.list(kind)).version))
            for kind in kinds
        ]
        try:
            yield peer_process
        finally:
            for task in watches:
                task.cancel()
            await asyncio.gather(*watches, return_exceptions=True)


def _complete(job: Any) -> bool:
    return job is not None and any(c.type == "Complete" and c.status == "True" for c in job.status.conditions)


def _event(model: Model, condition: Mapping[str, Any], owner: str) -> dict[str, Any]:
    meta = model.metadata
    stamp = condition.get("lastTransitionTime", "")
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"generateName": f"{meta.name}.", "namespace": NAMESPACE},
        "involvedObject": {
            "apiVersion": API_VERSION,
            "kind": KIND,
            "namespace": NAMESPACE,
            "name": meta.name,
            "uid": meta.uid,
            "resourceVersion": meta.resource_version,
        },
        "type": "Normal",
        "reason": condition["reason"],
        "message": condition.get("message") or condition["reason"],
        "firstTimestamp": stamp,
        "lastTimestamp": stamp,
        "count": 1,
        "source": {"component": f"peer-{owner}"},
    }
