"""An engine that does not answer yet: its stages, deadlines, failures and back-off."""

import asyncio
from collections.abc import Mapping

import msgspec
import pytest

from flexinfer.api import kube
from flexinfer.api.model import BackendStatus
from flexinfer.api.reasons import Reason
from flexinfer.backends.failures import REMEDIES, Kind
from flexinfer.events import events
from flexinfer.events.nodes import Device, DeviceProcess
from flexinfer.events.workload import pod_facts
from flexinfer.launcher import decide as deciding
from flexinfer.launcher.effects import Purpose, Stop
from flexinfer.launcher.load_watch import LoadWatch, loaded
from flexinfer.launcher.loading import BINDING_SECONDS
from flexinfer.launcher.manifests import LaunchSettings
from flexinfer.launcher.memory import LOADED_MB, Memory, MemoryLoaded, remember
from flexinfer.launcher.retry import IMAGE_SECONDS, stage_seconds
from flexinfer.state.actions import RequeueAt
from flexinfer.state.apply import apply_events
from flexinfer.state.observed import Observation
from tests.builders import NOW, a_state
from tests.keyed import effects, on_all_models
from tests.runtimes import a_runtime
from tests.unit.launcher.deciding import (
    LOADING,
    READY,
    STOPPED,
    decided,
    message,
    outcome,
    ready,
    with_messages,
)
from tests.unit.launcher.engine_output import condition_of
from tests.unit.launcher.models import (
    IDLE,
    SETTINGS,
    a_probe,
    a_start,
    holding,
    its_pod,
    observed,
    starting,
)

decide = on_all_models(deciding.decide)


def test_a_pod_that_waits_for_its_process_is_starting() -> None:
    """The message names the node."""
    model = a_start(ready=STOPPED)
    [action] = decided(model, holding(model, its_pod(model, running=False, ip="", phase="Pending")))
    assert outcome(action) == ("False", Reason.STARTING)
    assert message(action) == "Pod is starting on node a"


def test_a_pod_is_reported_as_waiting_once_a_scheduler_has_had_time_to_bind_it() -> None:
    """Most are bound in milliseconds: that write is saved."""
    model = a_start(ready=STOPPED)
    parts = (model, holding(model, its_pod(model, node="", running=False, ip="", phase="Pending")))
    assert decided(*parts, after=BINDING_SECONDS / 2) == [RequeueAt(NOW + BINDING_SECONDS)]
    [action] = decided(*parts, after=BINDING_SECONDS)
    assert outcome(action) == ("False", Reason.STARTING)


def test_a_start_that_was_reported_goes_on_being_reported_while_a_scheduler_may_still_bind_it() -> None:
    """Only the first report waits for what a scheduler needs: what holds it up now is said at once."""
    model = with_messages(a_start(ready=("False", Reason.STARTING)), Ready="Pod is starting on node a")
    full = its_pod(
        model,
        node="",
        running=False,
        ip="",
        phase="Pending",
        reason="Unschedulable",
        message="0/2 nodes are available",
    )
    [*_, action] = decided(model, holding(model, full), after=BINDING_SECONDS / 2)
    assert "0/2 nodes are available" in message(action)


def test_a_start_whose_beginning_was_not_observed_is_reported_at_once() -> None:
    """There is nothing to count a scheduler's time from."""
    model = a_start("Accepted", "Placed", "Cached", "Wanted", "Granted", ready=STOPPED)
    unbound = its_pod(model, node="", running=False, ip="", phase="Pending")
    state, memory = observed(model, holding(model, unbound))
    unseen = msgspec.structs.replace(state, changed_at={})
    [action] = decide(unseen, memory, NOW, settings=SETTINGS)
    assert outcome(action) == ("False", Reason.STARTING)


def test_a_running_engine_that_does_not_answer_loads() -> None:
    """Until the first probe says otherwise."""
    for model in (a_start(ready=("False", Reason.STARTING)), a_start()):
        action = decided(model, holding(model, its_pod(model)))[-1]
        assert outcome(action) == ("False", Reason.LOADING)


def test_an_engine_that_died_is_restarting() -> None:
    """The kubelet restarts it; the proxies stop routing."""
    model = a_start(ready=READY)
    pod = its_pod(model, restarts=1, exit_code=137)
    [action] = decided(model, holding(model, pod), a_probe(model, pod, healthy=False, detail="no connection"))
    assert outcome(action) == ("False", Reason.RESTARTING)
    assert "exit code 137" in message(action)


STOPPED_BY_NODE = "NodeShutdown: Pod was terminated in response to imminent node shutdown."


@pytest.mark.parametrize(
    "ready", [READY, LOADING, ("False", Reason.RESTARTING), ("False", Reason.BACK_OFF)], ids=str
)
def test_an_engine_that_its_node_stopped_at_a_shutdown_starts_and_loads_without_a_warning(
    ready: tuple[str, str],
) -> None:
    """An orderly shutdown of the node is not a crash of the engine, whatever the engine did before."""
    before = BackendStatus(loading_stage="Restart" if ready[1] == Reason.BACK_OFF else "", restarts=2)
    model = a_start(ready=ready, backend_status=before)
    stopped = its_pod(
        model,
        running=False,
        restarts=2,
        exit_code=143,
        reason="NodeShutdown",
        message="Pod was terminated in response to imminent node shutdown.",
        last=STOPPED_BY_NODE,
    )
    [action] = decided(
        model, holding(model, stopped), a_probe(model, stopped, healthy=False, detail="no connection")
    )
    assert (outcome(action), message(action)) == (
        ("False", Reason.STARTING),
        f"Pod is starting on node a ({STOPPED_BY_NODE.removesuffix('.')})",
    )
    started = its_pod(model, version=9, restarts=3, exit_code=143, last=STOPPED_BY_NODE)
    [action, *_] = decided(
        model, holding(model, started), a_probe(model, started, healthy=False, detail="no connection")
    )
    if ready != LOADING:
        assert outcome(action) == ("False", Reason.LOADING)


@pytest.mark.parametrize(
    ("before", "note"), [(LOADING, "loaded in 2s"), (("False", Reason.STARTING), "loaded in 0.5s")], ids=str
)
def test_the_time_that_a_node_was_switched_off_is_no_part_of_a_load(
    before: tuple[str, str], note: str
) -> None:
    """It is measured from when the new process was seen; of one that was not, what was measured before stays."""
    backend = BackendStatus(restarts=3, load_seconds=0.5)
    stopping = a_start(ready=READY, backend_status=backend)
    loads = a_start(ready=before, backend_status=backend, version=8)
    pod = its_pod(loads, restarts=3, exit_code=143, last=STOPPED_BY_NODE)
    parts = (stopping, holding(loads, pod))
    state, memory = observed(*parts, a_probe(loads, pod))
    days = 200_000.0
    state = apply_events(state, [Observation(events.ModelObserved(model=loads), NOW + days)])
    [action] = decide(state, memory, NOW + days + 2, settings=SETTINGS)
    assert message(action).endswith(f"({note})")


def test_an_engine_that_hangs_long_after_a_shutdown_of_its_node_is_restarting() -> None:
    """The shutdown explains a new process, and not one that answered before."""
    for before in (READY, ("False", Reason.RESTARTING)):
        model = a_start(ready=before, backend_status=BackendStatus(restarts=3))
        pod = its_pod(model, restarts=3, exit_code=143, last=STOPPED_BY_NODE)
        [*_, action] = decided(
            model, holding(model, pod), a_probe(model, pod, healthy=False, detail="no answer within 5s")
        )
        assert outcome(action) == ("False", Reason.RESTARTING)
        assert message(action) == "engine stopped responding (no answer within 5s)"


def test_an_engine_that_ran_out_of_memory_says_what_to_raise() -> None:
    """The kubelet's back-off explains nothing; the end of the last process does."""
    ended = {"exitCode": 137, "reason": "OOMKilled"}
    state = {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 40s restarting failed container"}}
    container = {"name": "engine", "restartCount": 3, "state": state, "lastState": {"terminated": ended}}
    facts = pod_facts(
        msgspec.convert(
            {"metadata": {"name": "llama-0"}, "status": {"containerStatuses": [container]}}, kube.Pod
        )
    )
    model = a_start(ready=LOADING)
    pod = its_pod(
        model,
        running=False,
        restarts=3,
        exit_code=facts.exit_code,
        last=facts.last,
        reason=facts.reason,
        message=facts.message,
    )
    [action] = decided(model, holding(model, pod))
    assert outcome(action) == ("False", Reason.BACK_OFF)
    assert message(action) == (
        "engine ended with exit code 137 (OOMKilled); restarted 3 times; raise spec.resources.limits.memory; "
        "back-off: the node waits 40s before each attempt"
    )


def test_an_engine_that_names_no_cause_has_its_last_line() -> None:
    """Where no line is one that its backend has, it is all there is."""
    message = condition_of("llamacpp", "one\nthe last line")
    assert message == "engine ended with exit code 1 (Error: the last line); restarted 1 time"


CRASHED = "engine ended with exit code 1 (Error: no such file); restarted 2 times"
IN_POD_BACK_OFF = BackendStatus(loading_stage="Restart", restarts=2)


def test_an_engine_that_the_node_restarts_later_and_later_is_in_back_off_and_not_restarting() -> None:
    """Also while an attempt runs, until it answers: neither a new reason nor a new message at each attempt."""
    model = a_start(ready=("False", Reason.RESTARTING))
    crashed = {"restarts": 2, "exit_code": 1, "last": "Error: no such file"}
    waiting = its_pod(
        model,
        running=False,
        reason="CrashLoopBackOff",
        message="back-off 20s restarting failed container",
        **crashed,
    )
    [action] = decided(model, holding(model, waiting))
    said = f"{CRASHED}; back-off: the node waits 20s before each attempt"
    assert (outcome(action), message(action)) == (("False", Reason.BACK_OFF), said)
    model = with_messages(
        a_start(ready=("False", Reason.BACK_OFF), backend_status=IN_POD_BACK_OFF), Ready=said
    )
    running = its_pod(model, **crashed)
    assert [type(one) for one in decided(model, holding(model, running))] == [RequeueAt]
    [action] = decided(model, holding(model, running), a_probe(model, running))
    assert outcome(action) == ("True", Reason.READY)


def test_a_crash_loop_keeps_its_pod_until_its_deadline() -> None:
    """The node restarts the engine in it; only a Pod that will never run again is deleted."""
    model = a_start(ready=("False", Reason.BACK_OFF), backend_status=IN_POD_BACK_OFF)
    pod = its_pod(
        model, running=False, restarts=2, exit_code=1, reason="CrashLoopBackOff", message="back-off 20s"
    )
    early, late = (decided(model, holding(model, pod), after=SETTINGS.loading_seconds + x) for x in (-1, 1))
    assert not any(isinstance(action, Stop) for action in early)
    assert outcome(late[-1]) == ("False", Reason.LOADING_TIMEOUT)


def test_an_image_for_another_architecture_is_named() -> None:
    """The kernel's error alone names no remedy."""
    model = a_start(ready=LOADING)
    last = "Error: exec /usr/bin/python: exec format error"
    pod = its_pod(model, running=False, restarts=1, exit_code=255, last=last)
    [action] = decided(model, holding(model, pod))
    assert "another architecture than that of node a" in message(action)


def test_a_pod_that_its_node_ended_says_why_and_not_how() -> None:
    """An engine that was evicted, or preempted for a Pod of a higher PriorityClass, was killed, but that is the consequence."""
    killed = {"terminated": {"exitCode": 137, "reason": "Error", "message": ""}}
    status = {
        "phase": "Failed",
        "reason": "Evicted",
        "message": "The node was low on resource: ephemeral-storage.",
        "containerStatuses": [{"name": "engine", "state": killed}],
    }
    pod = pod_facts(msgspec.convert({"metadata": {"name": "llama-0"}, "status": status}, kube.Pod))
    assert (pod.reason, pod.message) == ("Evicted", "The node was low on resource: ephemeral-storage.")
    for why in (
        ("TerminationByKubelet", "low on resource"),
        ("PreemptionByScheduler", "preempting to accommodate a higher priority pod"),
    ):
        disrupted = {"type": "DisruptionTarget", "status": "True", "reason": why[0], "message": why[1]}
        status = {k: v for k, v in status.items() if k not in ("reason", "message")} | {
            "conditions": [disrupted]
        }
        pod = pod_facts(msgspec.convert({"metadata": {"name": "llama-0"}, "status": status}, kube.Pod))
        assert (pod.reason, pod.message) == why


def test_an_image_that_cannot_be_pulled_has_the_nodes_error() -> None:
    """So that the user knows what to install."""
    model = a_start(ready=("False", Reason.STARTING))
    pod = its_pod(
        model, running=False, ip="", phase="Pending", reason="ErrImagePull", message="no runtime for vllm"
    )
    [action] = decided(model, holding(model, pod))
    assert outcome(action) == ("False", Reason.IMAGE_PULL_FAILED)
    assert "no runtime for vllm" in message(action)


def test_a_program_that_is_not_installed_is_no_failed_image() -> None:
    """On the local node; the message says what to install, and the start is given up as soon as that of an image."""
    model = a_start(ready=("False", Reason.STARTING))
    words = "vllm is not on PATH: pip install vllm"
    pod = its_pod(model, running=False, ip="", phase="Pending", reason="ProgramNotInstalled", message=words)
    [action] = decided(model, holding(model, pod))
    assert outcome(action) == ("False", Reason.ENGINE_NOT_INSTALLED)
    assert message(action) == f"engine is not installed: {words}"
    assert stage_seconds(model, LaunchSettings(), Reason.ENGINE_NOT_INSTALLED) == IMAGE_SECONDS


def test_a_failed_init_container_has_its_error_in_the_message() -> None:
    """The cause is in the Pod's first container."""
    words = {"exitCode": 1, "reason": "Error", "message": "noise\nthe hub is unavailable"}
    status = {
        "phase": "Pending",
        "initContainerStatuses": [{"name": "fetch", "lastState": {"terminated": words}}],
    }
    pod = pod_facts(msgspec.convert({"metadata": {"name": "llama-0"}, "status": status}, kube.Pod))
    assert (pod.reason, pod.message) == ("InitError", "the hub is unavailable")


def test_loading_has_a_deadline() -> None:
    """No progress for loading_seconds ends the start."""
    model = a_start(ready=LOADING)
    early, late = (
        decided(model, holding(model, its_pod(model)), after=SETTINGS.loading_seconds + x) for x in (-1, 1)
    )
    assert early[0] == RequeueAt(NOW + SETTINGS.loading_seconds)
    assert outcome(late[0]) == ("False", Reason.LOADING_TIMEOUT)


def test_progress_extends_the_deadline() -> None:
    """From Starting to Loading the deadline is set again (reliability G17)."""
    model = a_start(ready=("False", Reason.STARTING))
    [action] = decided(model, holding(model, its_pod(model)), after=SETTINGS.loading_seconds + 1)
    assert outcome(action) == ("False", Reason.LOADING)


def test_an_engine_that_says_how_far_it_is_has_the_time_of_a_stage_from_then_on() -> None:
    """By its health endpoint; the same answer again, or one of the Pod before it, is no progress (reliability G17)."""
    model = a_start(ready=LOADING)
    pod, seconds = its_pod(model), SETTINGS.loading_seconds
    state, memory = observed(model, holding(model, pod))
    for at, stage in ((10, "503 loading"), (40, "503 warming up"), (50, "503 loading")):
        memory = remember(memory, a_probe(model, pod, healthy=False, detail="x", stage=stage), NOW + at)
    assert RequeueAt(NOW + 40 + seconds) in decide(state, memory, NOW + seconds + 1, settings=SETTINGS)
    [late] = decide(state, memory, NOW + 40 + seconds, settings=SETTINGS)
    assert outcome(late) == ("False", Reason.LOADING_TIMEOUT)
    another = its_pod(model, uid="pod-2", version=9)
    state, _ = observed(model, holding(model, another))
    [other] = decide(state, memory, NOW + seconds + 1, settings=SETTINGS)
    assert outcome(other) == ("False", Reason.LOADING_TIMEOUT)


def test_an_answer_that_is_new_each_time_does_not_extend_a_start_without_end() -> None:
    """As one with a clock in it."""
    model = a_start(ready=LOADING)
    pod = its_pod(model)
    state, memory = observed(model, holding(model, pod))
    for at in range(100):
        memory = remember(memory, a_probe(model, pod, healthy=False, detail="x", stage=f"503 {at}"), NOW + at)
    assert RequeueAt(NOW + 7 + SETTINGS.loading_seconds) in decide(state, memory, NOW + 1, settings=SETTINGS)


def test_an_engine_that_fills_its_devices_has_the_time_of_a_stage_from_each_growth_on() -> None:
    """The bytes that have reached the devices are telemetry's; what it gives back and takes again is no progress (reliability G17)."""
    model = a_start(ready=LOADING)
    pod, seconds = its_pod(model), SETTINGS.loading_seconds
    state, memory = observed(model, holding(model, pod))
    for at, held in ((10, 3_000), (seconds, 9_000), (seconds + 1, 9_000 + LOADED_MB - 1)):
        fact = MemoryLoaded(key=model.key, uid=model.uid, pod_uid=pod.uid, device_mb=int(held))
        memory = remember(memory, fact, NOW + at)
    memory = remember(memory, a_probe(model, pod, healthy=False, detail="x"), NOW + seconds + 2)
    assert RequeueAt(NOW + 2 * seconds) in decide(state, memory, NOW + seconds + 3, settings=SETTINGS)
    [late] = decide(state, memory, NOW + 2 * seconds, settings=SETTINGS)
    assert outcome(late) == ("False", Reason.LOADING_TIMEOUT)


def test_growth_is_what_the_processes_of_the_newest_pod_hold_of_all_devices_and_is_told_once() -> None:
    """Others on the device, and the Pod before it, count for nothing."""
    model = a_start(ready=LOADING)
    pod = its_pod(model)
    state, memory = observed(model, holding(model, pod), telemetry({pod.uid: 3_000, "pod-before": 9_000}))
    [fact] = loaded(state, memory)
    assert fact == MemoryLoaded(key=model.key, uid=model.uid, pod_uid=pod.uid, device_mb=6_000)
    memory = remember(memory, fact, NOW)
    assert list(loaded(state, memory)) == []
    assert list(loaded(observed(a_start(ready=READY), holding(model, pod))[0], Memory())) == []


async def test_the_watch_tells_of_growth_after_the_sample_that_shows_it() -> None:
    """Beside the controller, which decides on the Model again."""
    model = a_start(ready=LOADING)
    pod = its_pod(model)
    state, memory = observed(model, holding(model, pod), telemetry({pod.uid: 3_000}))
    watch, facts = LoadWatch(), asyncio.Queue[MemoryLoaded]()
    task = asyncio.create_task(watch.watch(a_runtime("launcher"), facts.put_nowait))
    watch.observe(state, memory)
    assert (await facts.get()).device_mb == 6_000
    task.cancel()


def telemetry(held: Mapping[str, int]) -> events.GpusObserved:
    """Return a sample of two devices of node a, of each of which the Pods of these uids hold so much, in MiB."""
    processes = tuple(
        DeviceProcess(pid=pid, used_mb=mb, pod_uid=uid) for pid, (uid, mb) in enumerate(held.items(), start=1)
    )
    devices = tuple(Device(uuid=uuid, total_mb=24_000, processes=processes) for uuid in ("GPU-1", "GPU-2"))
    return events.GpusObserved(node="a", boot="b", sample=1, devices=devices)


def test_a_crash_loop_is_no_progress() -> None:
    """However often it restarts, the deadline runs on (reliability G24)."""
    model = a_start(ready=("False", Reason.RESTARTING))
    pod = its_pod(model, restarts=9, exit_code=1)
    [action] = decided(model, holding(model, pod), after=SETTINGS.loading_seconds + 1)
    assert outcome(action) == ("False", Reason.LOADING_TIMEOUT)


def test_a_start_that_was_given_up_is_deleted_and_not_retried() -> None:
    """Final until the spec changes or a request arrives."""
    model = a_start(ready=("False", Reason.LOADING_TIMEOUT))
    pod = its_pod(model)
    [action] = decided(model, holding(model, pod))
    assert isinstance(action, Stop)
    assert action.purpose is Purpose.CLEAR
    assert decided(model) == []


def test_a_request_after_a_failed_start_tries_again() -> None:
    """Wanted turned True after Ready turned LoadingTimeout. That is written first: a Pod under LoadingTimeout is deleted as failed."""
    failed = a_start(*IDLE, ready=("False", Reason.LOADING_TIMEOUT))
    asked = a_start(ready=("False", Reason.LOADING_TIMEOUT), version=2)
    state = apply_events(a_state(failed), [Observation(events.ModelObserved(model=asked), NOW + 5)])
    assert [outcome(a) for a in decide(state, Memory(), NOW + 5, settings=SETTINGS)] == [
        ("False", Reason.STARTING)
    ]
    retried = a_start(ready=("False", Reason.STARTING))
    assert decided(retried) == [starting(retried)]


def test_a_failed_pod_is_replaced_after_a_back_off() -> None:
    """Written, deleted, waited, started."""
    model = a_start(ready=LOADING)
    pod = its_pod(model, phase="Failed", running=False, reason="Evicted", message="low on memory")
    [first] = decided(model, holding(model, pod))
    assert outcome(first) == ("False", Reason.BACK_OFF)
    assert ready(first).backend.restarts == 1
    backing_off = a_start(ready=("False", Reason.BACK_OFF), backend_status=BackendStatus(restarts=3))
    [second] = decided(backing_off, holding(backing_off, pod))
    assert isinstance(second, Stop)
    assert second.purpose is Purpose.CLEAR
    assert decided(backing_off) == [RequeueAt(NOW + 4)]
    [again] = decided(backing_off, after=4)
    assert outcome(again) == ("False", Reason.STARTING)
    assert ready(again).backend.restarts == 3
    retried = a_start(ready=("False", Reason.STARTING), backend_status=BackendStatus(restarts=3))
    assert decided(retried) == [starting(retried)]


def test_a_pod_that_fails_at_once_counts_as_a_failure_of_its_own() -> None:
    """Under the condition of the failure before it, it would be replaced without any back-off, and counted never."""
    model = a_start(ready=("False", Reason.STARTING), backend_status=BackendStatus(restarts=3))
    [action] = decided(model, holding(model, its_pod(model, phase="Failed", running=False)))
    assert outcome(action) == ("False", Reason.BACK_OFF)
    assert ready(action).backend.restarts == 4


def test_pods_that_fail_without_end_are_given_up() -> None:
    """No wait is without a deadline."""
    model = a_start(ready=LOADING, backend_status=BackendStatus(restarts=5))
    [action] = decided(model, holding(model, its_pod(model, phase="Failed", running=False)))
    assert outcome(action) == ("False", Reason.LOADING_TIMEOUT)


def test_the_error_of_a_failed_pull_is_kept_while_the_kubelet_backs_off() -> None:
    """It alternates between the two, every few seconds: no write for that."""
    model = a_start(ready=("False", Reason.IMAGE_PULL_FAILED))
    model = with_messages(model, Ready="image pull failed: ErrImagePull: no such tag")
    pod = its_pod(
        model, running=False, phase="Pending", reason="ImagePullBackOff", message="Back-off pulling image"
    )
    writes = effects(decided(model, holding(model, pod)))
    assert [message(a) for a in writes] == [
        "image pull failed: ErrImagePull: no such tag"
    ]  # stage and restarts


UNKNOWN_ARCHITECTURE = """\
0.00.226.825 E llama_model_load: error loading model: unknown model architecture: 'llamx'
0.00.234.975 E llama_model_load_from_file_impl: failed to load model
0.00.412.320 E srv          init: exiting due to model loading error"""


@pytest.mark.parametrize("failures", [2, 5])
def test_a_failed_pod_names_the_engines_cause_and_what_helps(failures: int) -> None:
    """As of a shared group, whose Pods are not restarted by their node; not the whole end of its log."""
    ended = {"exitCode": 1, "reason": "Error", "message": UNKNOWN_ARCHITECTURE}
    container = {"name": "engine", "state": {"terminated": ended}}
    raw = {"metadata": {"name": "m-0"}, "status": {"phase": "Failed", "containerStatuses": [container]}}
    read = pod_facts(msgspec.convert(raw, kube.Pod))
    model = a_start(ready=LOADING, backend_status=BackendStatus(restarts=failures))
    shown = {name: getattr(read, name) for name in ("reason", "message", "last", "output", "exit_code")}
    [action] = decided(model, holding(model, its_pod(model, phase="Failed", running=False, **shown)))
    cause = "Pod failed with exit code 1 (Error: unknown model architecture: 'llamx')"
    helps = REMEDIES[Kind.ARCHITECTURE]
    assert message(action) in (
        f"{cause}; {helps}; back-off: attempt 4 of 6 in 4s",
        f"{cause}, 6 times in a row; {helps}; a request or a change of the spec retries",
    )


def test_a_failed_pod_says_when_the_next_attempt_is() -> None:
    """Which of how many, and in how many seconds."""
    model = a_start(ready=LOADING, backend_status=BackendStatus(restarts=2))
    pod = its_pod(model, phase="Failed", running=False, exit_code=1, reason="Error")
    [action] = decided(model, holding(model, pod))
    assert message(action) == "Pod failed with exit code 1 (Error); back-off: attempt 4 of 6 in 4s"


@pytest.mark.parametrize("always", [False, True])
def test_an_engine_of_the_spec_before_that_makes_no_progress_goes_while_the_newer_one_is_prepared(
    *, always: bool
) -> None:
    """It would load without end, and keep its devices, for as long as a download takes; what is given up is no start of the newer spec."""
    gates = ("Accepted", "Placed", ("Cached", "False", Reason.FETCHING), "Wanted", "Granted")
    spec = {"generation": 2, "ready_generation": 1, "serverless": {"enabled": not always}}
    model = a_start(*gates, ready=LOADING, **spec)
    pod = its_pod(model, generation=1, template="of the spec before")
    silent = a_probe(model, pod, healthy=False, detail="health check: HTTP 503")
    early, late = (
        decided(model, holding(model, pod), silent, after=SETTINGS.loading_seconds + x) for x in (-1, 1)
    )
    assert RequeueAt(NOW + SETTINGS.loading_seconds) in early
    assert [outcome(action) for action in late] == [("False", Reason.BACK_OFF)]
    assert "no progress for 60s" in message(late[0])
    failed = a_start(*gates, ready=("False", Reason.BACK_OFF), generation=2)
    [stop] = decided(failed, holding(failed, pod))
    assert isinstance(stop, Stop)
    assert stop.purpose is Purpose.CLEAR
    assert outcome(*decided(failed)) == ("False", Reason.NOT_STARTED)
