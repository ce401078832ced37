"""Driver: what runs beside the nodes of a simulation and plays the driver of their cards.

Five times a second, and as soon as an engine has ended or its memory is due, it looks which engines run on which cards, and writes what a
vendor's library would report of them into a file for the agent of each node. The file of `--simulate-gpus` is read again when it changes: footprints, foreign processes and release delays then
apply at once, other nodes and cards at the next `flexinfer up`. While it cannot be used the last good one applies, and the telemetry says so.
"""

import asyncio
import logging
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import msgspec

from flexinfer.api.groupversion import API_VERSION
from flexinfer.events.nodes import Device
from flexinfer.local.instance import Instance, write_private
from flexinfer.local.ports import HOST
from flexinfer.local.simulation import files
from flexinfer.local.simulation.description import SIMULATED_LABEL, Description, Foreign
from flexinfer.local.simulation.devices import FOREIGN_PIDS, Holder, SimulatedDevices
from flexinfer.local.simulation.engines import Checkpoints, Engine, checkpoints_of, program
from flexinfer.local.simulation.exits import Exits
from flexinfer.local.simulation.files import Simulation, SimulationError
from flexinfer.runtime.health import Health, served
from flexinfer.runtime.readiness import Readiness
from localkube.kubelet.api_errors import ApiError
from localkube.kubelet.client import Client, Object, connected
from localkube.kubelet.list_watch import list_and_watch
from localkube.process_identity import Identity

DEFAULT_FOOTPRINT_MB = 512
"""Of an engine whose size neither the file nor its Model states: about what a GPU context takes."""
PERIOD_SECONDS = 0.2
_NODES = "/api/v1/nodes"
_MODELS = f"/apis/{API_VERSION}/models"

log = logging.getLogger("flexinfer.local.simulation")


class Estimates:
    """The `vramEstimateMB` of every Model, and the footprint of each engine as it was when the engine was first seen.

    `listed` is set once all Models have been read.
    """

    def __init__(self) -> None:
        self.listed = asyncio.Event()
        self._models: dict[tuple[str, str], int] = {}
        self._engines: dict[str, int] = {}  # Pod uid -> MiB

    async def follow(self, client: Client) -> None:
        """Follow the Models until cancelled."""
        async for change, model in list_and_watch(client, _MODELS, report_lists=True):
            self.note(change, model)

    def note(self, change: str, model: Object) -> None:
        """Note a change of a Model, as `list_and_watch` yields it."""
        if change == "LISTED":
            self.listed.set()
        elif change == "DELETED":
            self._models.pop(_key(model), None)
        else:
            gpu = model["spec"].get("gpu") or {}
            self._models[_key(model)] = int(gpu.get("vramEstimateMB") or 0)

    def of(self, engine: Engine) -> int:
        """Return the footprint of an engine in MiB, unless the file states another."""
        if engine.pod_uid not in self._engines:
            estimate = self._models.get((engine.namespace, engine.model))
            self._engines[engine.pod_uid] = estimate or DEFAULT_FOOTPRINT_MB
        return self._engines[engine.pod_uid]

    def forget_all_but(self, pods: frozenset[str]) -> None:
        """Forget the engines of other Pods."""
        self._engines = {uid: mb for uid, mb in self._engines.items() if uid in pods}


def _key(model: Object) -> tuple[str, str]:
    return model["metadata"]["namespace"], model["metadata"]["name"]


class Source:
    """The file of `--simulate-gpus`, as it was when it could last be used."""

    def __init__(self, simulation: Simulation) -> None:
        self._file, self._started = Path(simulation.file), simulation.described
        self.described, self.problem = simulation.described, ""
        # When, and its size: a file is emptied and written within one tick of the clock.
        self._changed = (0, 0)

    def refresh(self) -> None:
        """Read the file if it has changed; nodes and cards stay those that the instance was started with."""
        try:
            stat = self._file.stat()
        except OSError:
            return  # removed: the instance continues with what it was started with
        version = (stat.st_mtime_ns, stat.st_size)
        if version == self._changed:
            return
        self._changed = version
        try:
            self._use(files.read(self._file))
        except SimulationError as error:
            self.problem = f"{error}; the simulation continues with the last valid file"
            log.warning("%s", self.problem)

    def _use(self, description: Description) -> None:
        cards = [(node.name, [gpu.profile for gpu in node.gpus]) for node in description.nodes]
        if cards != [(node.name, [gpu.profile for gpu in node.gpus]) for node in self._started.nodes]:
            self.problem = (
                f"{self._file} describes other nodes or cards; they apply at the next `flexinfer up`"
            )
            log.warning("%s", self.problem)
            return
        self.described, self.problem = description, ""
        log.info("%s is in use", self._file)


class Driver:
    """The cards of all nodes of an instance."""

    def __init__(self, instance: Instance, simulation: Simulation) -> None:
        self._instance, self._source = instance, Source(simulation)
        self._devices, self.estimates = SimulatedDevices(), Estimates()
        names = [node.name for node in simulation.described.nodes]
        self._checkpoints = {name: Checkpoints(checkpoints_of(instance, name)) for name in names}
        self._foreign: dict[tuple[int, Foreign], int] = {}  # index and process -> its start
        self._written: dict[str, bytes] = {}

    def step(self) -> frozenset[Identity]:
        """Look at the engines, and write what has changed for the agents; returns their processes."""
        self._source.refresh()
        engines = [engine for each in self._checkpoints.values() for engine in each.engines()]
        self.estimates.forget_all_but(frozenset(engine.pod_uid for engine in engines))
        holders = [*map(self._engine, engines), *self._foreign_processes()]
        for name, devices in self._devices.step(self._source.described, holders, time.monotonic()).items():
            self._write(name, devices)
        return frozenset(engine.identity for engine in engines)

    def pause(self) -> float:
        """Return for how long to wait until the next look, in seconds, while no engine ends."""
        return min(PERIOD_SECONDS, max(0.0, self._devices.due - time.monotonic()))

    def _engine(self, engine: Engine) -> Holder:
        stated_mb = self._source.described.footprint(engine.namespace, engine.model)
        return Holder(
            devices=engine.devices,
            pid=engine.identity.pid,
            started=engine.identity.started,
            memory_mb=stated_mb or self.estimates.of(engine),
            name=program(engine.identity),
            pod_uid=engine.pod_uid,
        )

    def _foreign_processes(self) -> Iterator[Holder]:
        """Yield the foreign processes of the file; each has started when it was first seen there."""
        present = {
            key: self._foreign.get(key) or _ticks() for key in enumerate(self._source.described.foreign)
        }
        self._foreign = present
        for (index, foreign), started_at in present.items():
            node = self._source.described.node(foreign.node)
            if node is not None:
                yield Holder(
                    devices=(node.uuid(foreign.gpu),),
                    pid=FOREIGN_PIDS + index,
                    started=started_at,
                    memory_mb=foreign.memory_mb,
                    name=foreign.name,
                )

    def _write(self, node: str, devices: tuple[Device, ...]) -> None:
        content = msgspec.json.encode({"devices": devices, "message": self._source.problem})
        if self._written.get(node) != content:
            path = files.devices(self._instance, node)
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            write_private(path, content)
            self._written[node] = content


def _ticks() -> int:
    """Return the clock ticks since boot, as the start of a process is given in /proc."""
    return int(time.clock_gettime(time.CLOCK_BOOTTIME) * os.sysconf("SC_CLK_TCK"))


class NodeClient(Protocol):
    """What deletes Nodes."""

    async def get(self, path: str, **query: str) -> Object:
        """Return a list. Raises ApiError."""
        ...

    async def delete(self, path: str, *, uid: str) -> None:
        """Delete an object of that uid. Raises ApiError."""
        ...


async def delete_other_nodes(client: NodeClient, description: Description) -> None:
    """Delete the Nodes of an earlier simulation that are no longer described; retries until the API server has answered."""
    names = {node.name for node in description.nodes}
    while True:
        try:
            for node in (await client.get(_NODES, labelSelector=SIMULATED_LABEL))["items"]:
                if node["metadata"]["name"] not in names:
                    await _delete(client, node)
        except ApiError as error:
            log.info("nodes are not listed yet: %s", error)
            await asyncio.sleep(PERIOD_SECONDS)
        else:
            return


async def _delete(client: NodeClient, node: Object) -> None:
    metadata = node["metadata"]
    await client.delete(f"{_NODES}/{metadata['name']}", uid=metadata["uid"])
    log.info("node %s is no longer described and was deleted", metadata["name"])


async def drive(instance: Instance, port_file: str) -> None:
    """Drive the cards until cancelled. Raises SimulationError if the instance has none."""
    simulation = files.saved(instance)
    if simulation is None:
        raise SimulationError(f"{instance.state} simulates no GPUs: `flexinfer up --simulate-gpus FILE` does")
    driver, readiness = Driver(instance, simulation), Readiness("gpus", time.monotonic)
    async with (
        connected(str(instance.kubeconfig)) as client,
        served(Health("", [readiness]), HOST, 0, port_file),
        asyncio.TaskGroup() as tasks,
    ):
        tasks.create_task(driver.estimates.follow(client))
        tasks.create_task(delete_other_nodes(client, simulation.described))
        await driver.estimates.listed.wait()
        exits = Exits()
        while True:
            exits.follow(driver.step())
            readiness.set_ready(True)
            await exits.wait(driver.pause())
