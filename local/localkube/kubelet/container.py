"""Container: one container of a Pod through all of its runs: start, probes, end, back-off, restart.

The container part of kubelet's pod workers. Cancelling `run` leaves the process running: an engine outlives its kubelet.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path

from localkube.kubelet import container_launch, container_process, pre_stop, probes, termination_message
from localkube.kubelet.api_errors import ApiError
from localkube.kubelet.backoff import format_duration
from localkube.kubelet.checkpoint import PodRecord
from localkube.kubelet.client import Object
from localkube.kubelet.container_launch import StartError
from localkube.kubelet.container_process import Launch, Process
from localkube.kubelet.environment import ConfigError
from localkube.kubelet.image_runtimes import NoProgramError, NoRuntimeError
from localkube.kubelet.node_context import NodeContext
from localkube.kubelet.pod_status import stamp
from localkube.kubelet.probes import Target
from localkube.kubelet.volumes import VolumeError

_UNKNOWN, _CANNOT_START = 255, 128
_UNKNOWN_EXIT = "exit code unknown: the process and its parent ended while the kubelet was down"
_FIRST_RETRY, _LONGEST_RETRY = 2.0, 60.0
_MAX_MESSAGE = 2048

log = logging.getLogger(__name__)


class Container:
    """One container. `save` writes the Pod's record and publishes its status."""

    def __init__(self, node: NodeContext, pod: PodRecord, spec: Object, save: Callable[[], None]) -> None:
        self._node = node
        self._pod = pod
        self._spec = spec
        self._save = save
        self._init = spec in (pod.pod["spec"].get("initContainers") or ())
        self.name = str(spec["name"])
        self.record = pod.container(self.name)
        self.process: Process | None = None
        self._folders: Mapping[str, Path] = {}

    async def run(self, folders: Mapping[str, Path]) -> None:
        """Run it, and restart it as the Pod's restartPolicy says; return when it has ended permanently."""
        self._folders = folders
        if (previous_run := self._previous_run()) is not None:
            await self._supervise(previous_run, await self._target())
        while self._should_restart():
            await self._wait_for_back_off()
            await self._node.listed.wait()
            new_run = await self._start()
            if new_run is not None:
                await self._supervise(*new_run)

    async def stop(self, grace: float, *, node_shutdown: bool = False) -> None:
        """Run its preStop hook, then stop it within `grace` seconds; return once none of its processes runs.

        `node_shutdown`: the next kubelet process restarts it; this end is no failure, and no back-off counts it.
        """
        if self.process is None:
            self.process = self._previous_run()
        if self.process is None:
            return
        self._event("Killing", f"Stopping container {self.name}")
        loop = asyncio.get_running_loop()
        until = loop.time() + grace
        hook = (self._spec.get("lifecycle") or {}).get("preStop")
        if hook and grace > 0:
            await self._pre_stop(hook, grace)
        code = await self.process.stop(max(until - loop.time(), 0.0))
        if "running" in self.record.state:
            self._record_end(code, node_shutdown=node_shutdown)

    async def _pre_stop(self, hook: Object, grace: float) -> None:
        wrong = await pre_stop.run(hook, grace, self._target, self._node.session)
        if wrong:
            self._event("FailedPreStopHook", wrong, warning=True)

    @property
    def ended(self) -> bool:
        """Whether its last run is over."""
        return "terminated" in self.record.state

    def _previous_run(self) -> Process | None:
        """Return the run that an earlier kubelet process started and whose end is not recorded yet."""
        if not self.record.attempt or self.ended or "waiting" in self.record.state:
            return None
        return container_process.adopt(self._run_folder(), self.record.identity)

    def _run_folder(self) -> Path:
        """Return the folder of the latest run."""
        return self._node.layout.runs / self._pod.uid / self.name / str(self.record.attempt)

    def _log_file(self) -> Path:
        return self._node.layout.log(self._pod.pod, self.name, self.record.attempt)

    def _should_restart(self) -> bool:
        termination = self.record.state.get("terminated")
        return termination is None or self._restarts_after(termination["exitCode"])

    def _restarts_after(self, code: int | None) -> bool:
        policy = self._pod.pod["spec"].get("restartPolicy", "Always")
        if policy == "Always" and not self._init:
            return True
        return policy != "Never" and code != 0

    async def _wait_for_back_off(self) -> None:
        """Wait for the back-off after an end."""
        if not self.ended:
            return
        delay = self._node.back_off.delay(self.record.streak)
        self.record.last = self.record.state
        if delay:
            reference = f"{self.name} pod={self._pod_reference()}"
            self._set_waiting(
                "CrashLoopBackOff",
                f"back-off {format_duration(delay)} restarting failed container={reference}",
            )
            text = f"Back-off restarting failed container {self.name} in pod {self._pod_reference()}"
            self._event("BackOff", text, warning=True)
            await asyncio.sleep(delay)

    async def _start(self) -> tuple[Process, Target] | None:
        """Start the next run; None if its program cannot be started, which counts as an end."""
        try:
            launch, target = await self._prepared()
            self.record.attempt += 1
            self.record.restarts = self.record.attempt - 1
            self.record.state, self.record.identity = {}, None
            self._node.checkpoints.save(self._pod)
            self.process = await container_process.start(launch)
        except (StartError, OSError, TimeoutError) as error:
            self._record_start_error(str(error))
            return None
        return self.process, target

    async def _prepared(self) -> tuple[Launch, Target]:
        retry = _FIRST_RETRY
        while True:
            try:
                return await container_launch.prepare(self._node, self._pod, self._spec, self._folders)
            except NoProgramError as error:
                self._set_waiting("ProgramNotInstalled", str(error))
                self._event("Failed", f"Error: {error}", warning=True)
                await asyncio.sleep(retry)
            except NoRuntimeError as error:
                await self._retry_image(str(error), retry)
            except (ConfigError, VolumeError) as error:
                self._set_waiting("CreateContainerConfigError", str(error))
                self._event("Failed", f"Error: {error}", warning=True)
                await asyncio.sleep(retry)
            except ApiError as error:
                log.warning("%s: %s", self._pod_reference(), error)
                await asyncio.sleep(retry)
            retry = min(2 * retry, _LONGEST_RETRY)

    async def _retry_image(self, why: str, retry: float) -> None:
        image = self._spec.get("image", "")
        self._set_waiting("ErrImagePull", why)
        self._event("Failed", f'Failed to pull image "{image}": {why}', warning=True)
        self._event("Failed", "Error: ErrImagePull", warning=True)
        await asyncio.sleep(retry / 2)
        self._set_waiting("ImagePullBackOff", f'Back-off pulling image "{image}": ErrImagePull: {why}')
        self._event("BackOff", f'Back-off pulling image "{image}"')
        await asyncio.sleep(retry / 2)

    async def _target(self) -> Target | None:
        """Return how probes reach an adopted run; None if that is unknown, and then it is not probed."""
        try:
            return (await container_launch.prepare(self._node, self._pod, self._spec, self._folders))[1]
        except (NoRuntimeError, ConfigError, VolumeError, StartError, ApiError) as error:
            log.warning("%s: it is not probed: %s", self._pod_reference(), error)
            return None

    async def _supervise(self, running: Process, target: Target | None) -> None:
        """Record the start of a run, probe it, and record its end."""
        self.process = running
        self._record_start(running)
        code: int | None = None
        async with asyncio.TaskGroup() as tasks:
            probing = tasks.create_task(self._probe(running, target))
            code = await running.ended()
            probing.cancel()
        self._record_end(code)

    def _record_start(self, running: Process) -> None:
        if "running" not in self.record.state:
            self.record.state = {"running": {"startedAt": stamp(datetime.now(UTC))}}
            self.record.started = self._init or "startupProbe" not in self._spec
            self.record.ready = not self._init and self.record.started and "readinessProbe" not in self._spec
            image = self._spec.get("image", "")
            for reason, text in (
                ("Pulled", f'Container image "{image}" is run by a program of this machine'),
                ("Created", f"Created container: {self.name}"),
                ("Started", f"Started container {self.name}"),
            ):
                self._event(reason, text)
        self.record.identity = running.identity or self.record.identity
        self._save()

    def _record_end(self, code: int | None, *, node_shutdown: bool = False) -> None:
        now = datetime.now(UTC)
        started_at = self.record.state.get("running", {}).get("startedAt", stamp(now))
        state: Object = {"reason": "Completed" if code == 0 else "Error", "exitCode": code}
        if code is None:
            state = {"reason": "Unknown", "exitCode": _UNKNOWN, "message": _UNKNOWN_EXIT}
        message = termination_message.message(
            self._spec, self._run_folder(), self._log_file(), failed=bool(code)
        )
        if message:
            state["message"] = message
        ran = (now - datetime.fromisoformat(started_at)).total_seconds()
        self.record.streak = self._node.back_off.streak(self.record.streak, ran)
        if node_shutdown and self._restarts_after(code):
            state |= termination_message.NODE_SHUTDOWN
            self.record.streak = 0
        self._set_terminated(
            {**state, "startedAt": started_at, "finishedAt": stamp(now), "containerID": self.record.id}
        )

    def _record_start_error(self, why: str) -> None:
        now = stamp(datetime.now(UTC))
        self.record.streak += 1
        state = {"reason": "StartError", "exitCode": _CANNOT_START, "message": why[:_MAX_MESSAGE]}
        self._event("Failed", f"Error: {why}", warning=True)
        self._set_terminated({**state, "startedAt": now, "finishedAt": now})

    def _set_terminated(self, state: Object) -> None:
        self.record.state = {"terminated": state}
        self.record.ready = self._init and state["exitCode"] == 0
        self.record.started = False
        self.process = None
        self._save()

    def _set_waiting(self, reason: str, message: str) -> None:
        self.record.state = {"waiting": {"reason": reason, "message": message[:_MAX_MESSAGE]}}
        self._save()

    def _event(self, reason: str, message: str, *, warning: bool = False) -> None:
        self._node.events.record(self._pod.pod, reason, message, warning=warning)

    def _pod_reference(self) -> str:
        metadata = self._pod.pod["metadata"]
        return f"{metadata['name']}_{metadata['namespace']}({metadata['uid']})"

    async def _probe(self, running: Process, target: Target | None) -> None:
        if target is None or self._init:
            return
        if not self.record.started:
            await self._follow("startup", running, target)
        async with asyncio.TaskGroup() as tasks:
            for kind in ("readiness", "liveness") if self.record.started else ():
                if f"{kind}Probe" in self._spec:
                    tasks.create_task(self._follow(kind, running, target))

    async def _follow(self, kind: str, running: Process, target: Target) -> None:
        probe = self._spec[f"{kind}Probe"]

        async def on_result(good: bool) -> bool:  # noqa: FBT001 -- the result itself
            if not good and kind != "readiness":
                await self._fail(kind, probe, running)
                return True
            return self._apply_result(kind, good=good)

        def on_failure(wrong: str) -> None:
            text = f"{kind.capitalize()} probe failed: {wrong}"
            self._event("Unhealthy", text, warning=True)

        try:
            probe_once = probes.prober_of(probe, target, self._node.session)
        except ValueError as error:
            on_failure(str(error))
            return
        await probes.follow(probe, probe_once, on_result, on_failure)

    def _apply_result(self, kind: str, *, good: bool) -> bool:
        """Record a success or a readiness result; returns whether the probe is finished."""
        if kind == "startup":
            self.record.started, self.record.ready = True, "readinessProbe" not in self._spec
            self._save()
            return True
        if kind == "readiness" and self.record.ready != good:
            self.record.ready = good
            self._save()
        return False

    async def _fail(self, kind: str, probe: Object, running: Process) -> None:
        text = f"Container {self.name} failed {kind} probe, will be restarted"
        self._event("Killing", text)
        grace = probe.get("terminationGracePeriodSeconds") or self._pod.pod["spec"].get(
            "terminationGracePeriodSeconds", 30
        )
        await running.stop(float(grace))
