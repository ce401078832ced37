"""Each law of the store reports a violation that is planted before it, and nothing without one."""

import msgspec
import pytest

from flexinfer.api import conditions
from flexinfer.api.labels import MODEL_UID_LABEL
from flexinfer.api.reasons import Reason
from flexinfer.api.sharedgroup import FREED, GRANTED, RELEASING, STOPPED
from flexinfer.runtime.kubernetes.api import MODELS, PODS
from localkube.apiserver.requests import Options
from tests.simulation.laws.base import Object
from tests.simulation.laws.facts import GROUP_KIND
from tests.simulation.laws.writes import WRITES
from tests.simulation.planting import (
    UID,
    Act,
    a_lease,
    an_engine,
    calls,
    granting,
    has,
    judged,
    lending,
    model,
    plays,
    pod,
    restores,
    writes,
)
from tests.simulation.simulation import Simulation


def _ends(simulation: Simulation) -> None:
    simulation.checker.end_history()


def _create_service(simulation: Simulation) -> None:
    for kind, body in (
        ("namespaces", {"kind": "Namespace", "metadata": {"name": "default"}}),
        ("services", {"kind": "Service", "metadata": {"name": "m", "labels": {MODEL_UID_LABEL: UID}}}),
    ):
        namespace = "default" if kind == "services" else None
        extra = {"spec": {"type": "ExternalName", "externalName": "x.y"}} if namespace else {}
        resource = simulation.named("", "v1", kind)
        simulation.store.create(resource, namespace, {"apiVersion": "v1", **body, **extra}, Options())


READY = (conditions.READY, "True", Reason.READY)
WANTED = (conditions.WANTED, "True", Reason.REQUESTED)
IDLE = (conditions.WANTED, "False", Reason.IDLE)
LOADING = (conditions.READY, "False", Reason.LOADING)
AT_REST = (conditions.READY, "False", Reason.STOPPED)


def _passes(seconds: float) -> Act:
    def later(simulation: Simulation) -> None:
        now = simulation.clock() + seconds
        simulation.checker.clock = lambda: now

    return later


def _has_a_request(simulation: Simulation) -> None:
    known = msgspec.convert(model() | {"apiVersion": "ai.flexinfer/v1alpha2", "kind": "Model"}, MODELS.type)
    simulation.checker.requests.received("1", known, "proxy")


def _follows(old: Object, new: Object) -> tuple[Act, Act]:
    return writes("models", None, old), writes("models", old, new)


def _clock_steps(simulation: Simulation) -> None:
    simulation.clock_step = 200.0


PLANTED: dict[str, tuple[str, tuple[Act, ...]]] = {
    "a status without the version that it was decided from": (
        "without the resourceVersion",
        (calls("apply", {"metadata": {}, "status": {"conditions": [{"type": "Wanted", "status": "True"}]}}),),
    ),
    "a condition of another owner": (
        "launcher's",
        (writes("models", model(), model(READY)), calls("apply", {"metadata": {}}, "reaper")),
    ),
    "a message that the conditions contradict": (
        "left Idle/Idle, which the conditions contradict",
        (
            writes("models", model(), model(READY, phase="Idle", reason="Idle")),
            calls("apply", {"metadata": {}}, "watcher"),
        ),
    ),
    "a turn that goes back": (
        "went from 2 to 1",
        (
            writes(GROUP_KIND, None, granting(2, GRANTED)),
            writes(GROUP_KIND, granting(2, STOPPED), granting(2, FREED)),
            writes(GROUP_KIND, granting(2, FREED), granting(1, GRANTED)),
        ),
    ),
    "a step that is left out": (
        "from Granted to Stopped",
        (writes(GROUP_KIND, granting(1, GRANTED), granting(1, STOPPED)),),
    ),
    "a gate that opens without a grant": (
        "nothing is granted",
        (writes("models", None, model()), writes("pods", pod(1, gated=True), pod(1))),
    ),
    "a gate of a turn that is over": (
        "turn 1 is Stopped",
        (
            writes("models", None, model()),
            writes(GROUP_KIND, None, granting(1, STOPPED)),
            writes("pods", pod(1, gated=True), pod(1)),
        ),
    ),
    "a stop that is reported while a Pod is left": (
        "as stopped while Pod m-0 exists",
        (writes("pods", None, pod(1)), *_follows(model(READY), model(AT_REST, backend={"turn": 1}))),
    ),
    "a stop that is reported unasked": (
        "which was not asked back",
        (
            writes(GROUP_KIND, None, granting(1, GRANTED)),
            *_follows(model(READY), model(AT_REST, backend={"turn": 1})),
        ),
    ),
    "a turn that is stopped while a Pod is left": (
        "is Stopped while Pod m-0 exists",
        (writes("pods", None, pod(1)), writes(GROUP_KIND, granting(1, RELEASING), granting(1, STOPPED))),
    ),
    "a device that is freed too soon": (
        "Freed while its memory is in use",
        (has(an_engine(started=True)), writes(GROUP_KIND, granting(1, STOPPED), granting(1, FREED))),
    ),
    "a finalizer that goes while a Pod is left": (
        "the finalizer of",
        (writes("pods", None, pod(0)), writes("models", model(), None)),
    ),
    "a request that is cut": (
        "were cut 0.0 s after its drain began",
        (
            has(an_engine(started=True, healthy=True, requests={"1": 0.0})),
            *_follows(model(READY), model(LOADING)),
            calls("delete", {"uid": "p"}, "launcher", PODS),
        ),
    ),
    "a Model that is scaled to zero while it loads": (
        "while it was loading for 9.0 s",
        (
            writes("models", None, model(WANTED, LOADING)),
            _passes(9),
            writes("models", model(WANTED), model(IDLE)),
        ),
    ),
    "a Model that is scaled to zero while it is used": (
        "while it had a request for 9.0 s",
        (_has_a_request, _passes(9), writes("models", model(WANTED), model(IDLE))),
    ),
    "a condition that is written again and again": (
        f"more than {WRITES} times",
        tuple(
            calls("apply", {"metadata": {}, "status": {"conditions": [{"type": "Wanted", "status": "True"}]}})
            for _ in range(WRITES + 1)
        ),
    ),
    "a lease whose status is Granted with a turn that it has not": (
        "was told Granted of turn 1",
        (writes(GROUP_KIND, None, lending(1, RELEASING)), writes("gpuleases", None, a_lease("Granted"))),
    ),
    "a lease that is granted twice": (
        "was over and is granted again",
        (
            writes(GROUP_KIND, None, lending(1, GRANTED)),
            writes("gpuleases", a_lease("Expired"), a_lease("Granted")),
        ),
    ),
    "a lease that is stopped without a word": (
        "is Stopped before it was told so",
        (
            writes(GROUP_KIND, None, lending(1, GRANTED)),
            writes("gpuleases", None, a_lease("Granted")),
            writes(GROUP_KIND, lending(1, RELEASING), lending(1, STOPPED)),
        ),
    ),
    "memory of a lease that is given out while its process runs": (
        "is Freed while its process 5000 runs",
        (
            plays,
            writes(GROUP_KIND, None, lending(1, STOPPED)),
            writes(GROUP_KIND, lending(1, STOPPED), lending(1, FREED)),
        ),
    ),
    "a lease that outlasts its time": (
        "is Granted after 2026-11-24T12:00:00Z",
        (
            writes(GROUP_KIND, None, lending(1, GRANTED)),
            writes("gpuleases", None, a_lease("Granted", expiresAt="2026-11-24T12:00:00Z")),
            _clock_steps,
            lambda simulation: simulation.checker.check_waits(),
        ),
    ),
    "a lease that is left": (
        "lease game is still Granted in default/g",
        (writes(GROUP_KIND, None, lending(1, GRANTED)), _ends),
    ),
    "a Service that is left": (
        "services m of the deleted Model",
        (_create_service, _ends),
    ),
}


def _looks(simulation: Simulation) -> None:
    simulation.checker.check_waits()


@pytest.mark.parametrize(("seconds", "reports"), [(30.0, 0), (45.0, 1)])
def test_a_load_that_must_stop_has_the_time_of_a_stop(seconds: float, reports: int) -> None:
    """Its Pod may take as long as any to end, and no longer."""
    loads, stops = model(WANTED, LOADING), model(IDLE, LOADING)
    problems = judged(writes("models", None, loads), writes("models", loads, stops), _passes(seconds), _looks)
    assert len([problem for problem in problems if "Ready/Stopping" in problem]) == reports
    assert not any("Ready/Loading" in problem for problem in problems)


@pytest.mark.parametrize(("deleting", "reports"), [(False, 1), (True, 0)])
def test_a_model_that_is_being_deleted_waits_for_its_stop_alone(deleting: bool, reports: int) -> None:  # noqa: FBT001
    """No check of its weights is made any more: what its Cached said stays."""
    checks = model(("Cached", "False", "Checking"))
    if deleting:
        checks["metadata"]["deletionTimestamp"] = "2026-11-24T12:00:00Z"
    problems = judged(writes("models", None, checks), _passes(20), _looks)
    assert len([problem for problem in problems if "Cached/Checking" in problem]) == reports


@pytest.mark.parametrize(("always", "reports"), [(False, 1), (True, 0)])
def test_behind_a_model_that_always_runs_another_waits_without_end(always: bool, reports: int) -> None:  # noqa: FBT001
    """It leaves the devices to no other; the message of the one that waits names it."""
    waits, holds = model(("Granted", "False", "Queued")), model(READY)
    for one in (waits, holds):
        one["spec"]["gpu"] = {"shared": "g"}
    holds["metadata"] |= {"uid": "another", "name": "n"}
    holds["spec"]["serverless"]["enabled"] = not always
    problems = judged(writes("models", None, holds), writes("models", None, waits), _passes(500), _looks)
    assert len([problem for problem in problems if "Granted/Queued" in problem]) == reports


@pytest.mark.parametrize(("version", "reports"), [(8, 0), (9, 1)])
def test_a_summary_of_a_version_that_is_given_out_again_may_be_of_its_former_life(
    version: int, reports: int
) -> None:
    """An API server that went back from version 8 gives 8 out again, 9 for the first time."""
    contradicts = model(READY, version=version + 1, phase="Idle", reason="Idle")
    problems = judged(
        writes("models", None, model(READY, version=8)),
        lambda simulation: simulation.checker.restored(()),
        writes("models", model(READY, version=version), contradicts),
        calls("apply", {"metadata": {}}, "watcher"),
    )
    assert len([problem for problem in problems if "contradict" in problem]) == reports


def test_what_a_restore_writes_is_no_call_s() -> None:
    """The first apply after it may alter nothing, so that the last write is still that of the restore."""
    problems = judged(
        writes("models", None, model()),
        restores("models", model(), model(READY)),
        calls("apply", {"metadata": {"resourceVersion": "1"}}, "arbiter"),
    )
    assert not [problem for problem in problems if "arbiter wrote" in problem]


@pytest.mark.parametrize("case", PLANTED)
def test_a_planted_violation_is_reported(case: str) -> None:
    """The law that it breaks says so."""
    words, acts = PLANTED[case]
    problems = judged(*acts)
    assert any(words in problem for problem in problems), problems


def test_a_turn_in_its_order_breaks_no_law() -> None:
    """From the grant over gate and release until the device is free."""
    steps = [granting(1, step) for step in (GRANTED, RELEASING, STOPPED, FREED)]
    assert not judged(
        writes("models", None, model(WANTED)),
        writes(GROUP_KIND, None, steps[0]),
        writes("pods", pod(1, gated=True), pod(1)),
        writes(GROUP_KIND, steps[0], steps[1]),
        writes("pods", pod(1), None),
        *_follows(model(READY), model(AT_REST, backend={"turn": 1})),
        writes(GROUP_KIND, steps[1], steps[2]),
        writes(GROUP_KIND, steps[2], steps[3]),
    )
