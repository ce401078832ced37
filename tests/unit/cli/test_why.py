"""`flexinfer why`: the conditions in order, and the one thing that would help."""

import msgspec
import pytest

from flexinfer.api import conditions, reasons
from flexinfer.api.conditions import Condition
from flexinfer.api.membership import GroupMembership
from flexinfer.api.metadata import Metadata
from flexinfer.api.model import BackendStatus, CacheStatus, Gpu, Model, ModelSpec, ModelStatus
from flexinfer.api.moments import moment
from flexinfer.api.placement import PlacedDevice, Placement
from flexinfer.api.reasons import Reason
from flexinfer.api.sharedgroup import BLOCKED, INITIALIZED, HeldDevice, Holder, SharedGroup
from flexinfer.cli import next_step as next_steps
from flexinfer.cli.explanation import Answer, Explanation, GroupAnswer, HolderOfGroup, answer, explanation
from flexinfer.cli.next_step import ACT, NONE, WAIT, NextStep
from tests import builders
from tests.builders import a_condition, a_group, a_holder
from tests.definitions import ROOT


def a_model(*conditions: tuple[str, str, str, str], generation: int = 1) -> Model:
    """Return a Model with these conditions: type, status, reason, message."""
    made = tuple(
        Condition(type=kind, status=status, reason=reason, message=message, observed_generation=1)
        for kind, status, reason, message in conditions
    )
    return Model(
        metadata=Metadata(name="a", namespace="default", uid="u", generation=generation),
        spec=ModelSpec(backend="llamacpp", source="pvc://models/x.gguf"),
        status=ModelStatus(phase="Pending", conditions=made, endpoint="http://proxy/v1"),
    )


ACCEPTED = ("Accepted", "True", Reason.ACCEPTED, "")
PLACED = ("Placed", "True", Reason.PLACED, "on local")


def next_step(model: Model) -> str:
    """Return the words of what is to be done."""
    return next_steps.next_step(model).message


def test_every_condition_has_a_line_in_the_order_of_the_conditions() -> None:
    """Also one that is not written yet."""
    lines = list(answer(a_model(PLACED, ACCEPTED)))
    assert [line.split()[1] for line in lines[1:-1]] == list(conditions.CONDITIONS)
    assert "not written yet by the prefetcher" in lines[3]


def test_a_missing_claim_comes_with_the_command_that_shows_the_claims() -> None:
    """The remedy names the namespace."""
    model = a_model(ACCEPTED, PLACED, ("Cached", "False", Reason.CLAIM_NOT_FOUND, "no claim x"))
    assert "kubectl get pvc -n default" in next_step(model)


def test_a_condition_that_is_missing_names_who_is_to_write_it() -> None:
    """A service that is away is what a user would look for next."""
    assert "placer" in next_step(a_model(ACCEPTED))


def test_a_ready_model_needs_nothing() -> None:
    """Its address is what one wants to know."""
    assert (
        next_step(a_model(("Ready", "True", Reason.READY, "")))
        == "nothing: the engine serves requests at http://proxy/v1"
    )


@pytest.mark.parametrize(
    "refused",
    [
        ("Accepted", "False", Reason.UNKNOWN_BACKEND, "x"),
        ("Cached", "False", Reason.SOURCE_NOT_FOUND, "x"),
        ("Placed", "False", Reason.NO_NODE_FITS, "x"),
        ("Cached", "False", Reason.DISK_FULL, "x"),
    ],
)
def test_a_ready_model_whose_newer_spec_is_refused_has_a_next_step(
    refused: tuple[str, str, str, str],
) -> None:
    """It answers with the spec before; that is not what its owner wants."""
    ready = ("Ready", "True", Reason.SERVING_OLDER_SPEC, "")
    before = {"Placed": [ACCEPTED], "Cached": [ACCEPTED, PLACED]}.get(refused[0], [])
    step = next_step(a_model(*before, refused, ready))
    assert step.startswith(str(reasons.remedy(refused[2], namespace="default", name="a")))
    assert step.endswith("; until then the engine serves requests at http://proxy/v1 with the spec before")


def test_a_remedy_that_the_message_states_is_the_next_step() -> None:
    """It knows the cause: that of the reason has to do for a full node, a cordoned one and a missing label alike."""
    message = "no node fits (1 node): a: is cordoned. Remedy: run kubectl uncordon a"
    assert (
        next_step(a_model(ACCEPTED, ("Placed", "False", Reason.NO_NODE_FITS, message)))
        == "run kubectl uncordon a"
    )


def test_a_model_that_is_scaled_to_zero_is_not_called_broken() -> None:
    """It is at rest: no mark of a failure, and nothing to do."""
    told_ready = ("Cached", "True", Reason.CACHED, "")
    wanted = ("Wanted", "False", Reason.IDLE, "no request")
    assert "the next request starts it" in next_step(a_model(ACCEPTED, PLACED, told_ready, wanted))


def test_a_final_reason_comes_before_a_passing_one() -> None:
    """What will not change by waiting is what has to be fixed."""
    waiting = ("Cached", "False", Reason.NOT_PLACED, "")
    failed = ("Ready", "False", Reason.LOADING_TIMEOUT, "600 s")
    assert "kubectl logs -n default a-0" in next_step(a_model(ACCEPTED, PLACED, waiting, failed))


def test_a_newer_spec_that_is_not_judged_yet_is_waited_for_while_the_one_before_is_served() -> None:
    """`Nothing` would be untrue: what its owner applied last does not run."""
    step = next_steps.next_step(a_model(ACCEPTED, PLACED, ("Ready", "True", Reason.READY, ""), generation=2))
    assert step.action == WAIT
    assert step.message.startswith("wait for the watcher, which writes Accepted")


@pytest.mark.parametrize(
    ("wanted", "action"),
    [(("Wanted", "False", Reason.IDLE, ""), NONE), (("Wanted", "True", Reason.ACTIVE, ""), NONE)],
)
def test_a_ready_model_that_is_about_to_rest_needs_nothing(
    wanted: tuple[str, str, str, str], action: str
) -> None:
    """It is as its owner asked for."""
    ready = ("Ready", "True", Reason.READY, "")
    cached = ("Cached", "True", Reason.CACHED, "")
    assert next_steps.next_step(a_model(ACCEPTED, PLACED, cached, wanted, ready)).action == action


def test_a_verdict_of_an_older_spec_is_marked() -> None:
    """What was said of another generation may not hold."""
    assert "(of an older spec)" in list(answer(a_model(ACCEPTED, generation=2)))[1]


@pytest.mark.parametrize("reason", sorted(reasons.FACTS))
def test_every_reason_has_a_next_step(reason: str) -> None:
    """Every state has its sentence."""
    assert next_step(a_model(("Accepted", "False", reason, "")))


def test_the_first_line_is_derived_from_the_conditions() -> None:
    """`status.phase` is written later than the conditions; a new Model has none."""
    ready = ("Ready", "True", Reason.READY, "engine healthy")
    every = [(kind, "True", kind, "") for kind in conditions.CONDITIONS if kind != conditions.READY]
    assert next(iter(answer(a_model(*every, ready)))) == "default/a is Ready: engine healthy"
    assert next(iter(answer(a_model()))) == "default/a is new"


@pytest.mark.parametrize(
    ("group", "line"),
    [
        pytest.param(a_group(a_holder("b", turn=41)), "b holds turn 41 (Granted)", id="granted"),
        pytest.param(
            a_group(a_holder("b", turn=41, step="Releasing", reason="idle")),
            "b holds turn 41 (Releasing: idle)",
            id="releasing",
        ),
        pytest.param(a_group(turn=41), "no holder (last turn 41)", id="free"),
        pytest.param(a_group(initialized=False), "not initialised yet", id="not initialised"),
        pytest.param(
            a_group(
                a_holder("b", step="Stopped"),
                conditions=(
                    a_condition(INITIALIZED),
                    Condition(type=BLOCKED, status="True", reason="x", message="GPU-1 is missing"),
                ),
            ),
            "b holds turn 1 (Stopped); blocked: GPU-1 is missing",
            id="blocked",
        ),
    ],
)
def test_holder_turn_and_step_are_those_of_the_shared_group(group: SharedGroup, line: str) -> None:
    """Whatever the Model's own conditions show."""
    assert f"  Group card: {line}" in list(answer(a_model(ACCEPTED), group))


def test_a_download_is_drawn_as_a_bar_below_its_condition() -> None:
    """With what is left, as the prefetcher wrote it."""
    model = a_model(ACCEPTED, PLACED, ("Cached", "False", Reason.FETCHING, "downloading a/b"))
    cache = CacheStatus(
        bytes=37, total_bytes=100, bytes_per_second=25_000_000, progress="37% of 100 bytes, 2m left"
    )
    model = msgspec.structs.replace(model, status=msgspec.structs.replace(model.status, cache=cache))
    lines = list(answer(model))
    assert "    [#######.............] 37% of 100 bytes, 2m left, 25.0 MB/s" in lines


@pytest.mark.parametrize(
    ("at", "line"),
    [
        ("2026-11-24T20:00:40Z", "    expected to be granted by 2026-11-24T20:00:40Z, in 40s"),
        ("2026-11-24T20:05:09Z", "    expected to be granted by 2026-11-24T20:05:09Z, in 5m"),
        ("2026-11-24T21:59:23Z", "    expected to be granted by 2026-11-24T21:59:23Z, in 1h59m"),
        (
            "2026-11-24T19:59:00Z",
            "    expected to be granted by 2026-11-24T19:59:00Z, which has passed: its holders stay longer than expected",
        ),
        ("", None),
    ],
)
def test_a_queued_model_says_when_it_is_expected_to_be_granted(at: str, line: str | None) -> None:
    """As the arbiter wrote it; nothing where that is not known."""
    model = a_model(("Granted", "False", Reason.QUEUED, "position 1 of 1 in group card"))
    shared = GroupMembership(group="card", state="Queued", position=1, expected_time=at)
    model = msgspec.structs.replace(model, status=msgspec.structs.replace(model.status, shared_group=shared))
    lines = list(answer(model, now=float(moment("2026-11-24T20:00:00Z") or 0)))
    assert [text for text in lines if "expected to be" in text] == ([line] if line else [])


def queued(
    *holders: Holder, priority: int = 100, first_start: bool = False, room_for: str = ""
) -> tuple[Model, SharedGroup]:
    """Return a Model that is queued, and its group with these holders."""
    wanted = Reason.FIRST_START if first_start else Reason.REQUESTED
    model = builders.a_model(
        "a",
        gpu=Gpu(shared="card", priority=priority),
        conditions=[
            *("Accepted", "Placed", "Cached"),
            ("Wanted", "True", wanted),
            ("Granted", "False", Reason.QUEUED),
        ],
    )
    group = a_group(*holders)
    return model, msgspec.structs.replace(
        group, status=msgspec.structs.replace(group.status, room_for=room_for)
    )


def held_by(name: str, priority: int) -> Model:
    """Return a Model that holds devices."""
    return builders.a_model(name, gpu=Gpu(shared="card", priority=priority))


LEASE = Holder(lease="game", uid="uid-game", turn=2, step="Granted")


@pytest.mark.parametrize(
    ("case", "members", "expected"),
    [
        pytest.param(
            queued(a_holder("b"), a_holder("c")),
            [held_by("b", 100), held_by("c", 300)],
            "wait, or set spec.gpu.priority (now 100) above that of a holder that is to leave: b has 100, c has 300",
            id="holders of no lower priority",
        ),
        pytest.param(
            queued(LEASE),
            [],
            "wait: a lease is never made to leave; to end lease game now: flexinfer lease give game -n default",
            id="a lease",
        ),
        pytest.param(
            queued(a_holder("b", step="Releasing")),
            [held_by("b", 100)],
            "wait until the memory of b is released",
            id="one that leaves",
        ),
        pytest.param(
            queued(a_holder("b", step="Stopped"), a_holder("c"), room_for="uid-a"),
            [held_by("b", 100), held_by("c", 100)],
            "wait until the memory of b is released",
            id="room is being made for it",
        ),
        pytest.param(
            queued(a_holder("b"), first_start=True),
            [held_by("b", 100)],
            "wait, or send a request: an initial start makes none leave that is in use or was requested, and a request does (holders: b)",
            id="an initial start",
        ),
        pytest.param(
            queued(a_holder("b"), priority=1000),
            [held_by("b", 1000)],
            "wait, or lower spec.gpu.priority of b: no Model can be above 1000",
            id="the highest priority",
        ),
        pytest.param(
            queued(a_holder("b"), priority=500),
            [held_by("b", 100)],
            "wait: a higher spec.gpu.priority does not help, 500 is above that of every holder already (b)",
            id="a holder of a lower priority",
        ),
        pytest.param(
            queued(),
            [],
            "wait; if the message names memory that others use, end those processes: `flexinfer gpus` lists them",
            id="memory of others",
        ),
    ],
)
def test_a_queued_model_is_told_to_raise_its_priority_only_where_that_helps(
    case: tuple[Model, SharedGroup], members: list[Model], expected: str
) -> None:
    """Who holds the devices, and with which priority, decides."""
    model, group = case
    step = next_steps.next_step(model, group, members)
    assert step.message == expected
    assert step.action == WAIT


def a_share(holder: Holder, mb: int) -> Holder:
    """Return a holder with so much of the one card."""
    return msgspec.structs.replace(holder, devices=(HeldDevice(uuid="GPU-1", memory_mb=mb),))


@pytest.mark.parametrize(("lease_mb", "helps"), [(8000, True), (20000, False), (0, False)])
def test_a_priority_is_advised_only_if_the_model_fits_once_those_below_it_have_left(
    lease_mb: int, *, helps: bool
) -> None:
    """A lease stays, whatever the priority: of 24,000 MiB it leaves enough for 12,000, too little, or an unknown rest."""
    model, group = queued(a_share(a_holder("b"), 4000), a_share(LEASE, lease_mb))
    device = PlacedDevice(uuid="GPU-1", memory_mb=12000, total_mb=24000)
    placement = Placement(node="a", devices=(device,), vendor="nvidia")
    model = msgspec.structs.replace(model, status=msgspec.structs.replace(model.status, placement=placement))
    step = next_steps.next_step(model, group, [held_by("b", 100)])
    assert ("set spec.gpu.priority" in step.message) is helps
    assert "to end lease game now: flexinfer lease give game -n default" in step.message


@pytest.mark.parametrize(
    ("reason", "backend", "expected"),
    [
        (Reason.RESTARTING, BackendStatus(loading_stage="Restart", restarts=2), "a-0 --previous"),
        (Reason.BACK_OFF, BackendStatus(loading_stage="Restart", restarts=2), "a-0 --previous"),
        (Reason.RESTARTING, BackendStatus(loading_stage="Restart"), "kubectl logs -n default a-0"),
        (
            Reason.RESTARTING,
            BackendStatus(loading_stage="Unresponsive", restarts=2),
            "kubectl logs -n default a-0",
        ),
        (Reason.RESTARTING, BackendStatus(), "wait: a new Pod is created"),
        (Reason.BACK_OFF, BackendStatus(), "kubectl logs -n default a-0 -f"),
        (Reason.LOADING_TIMEOUT, BackendStatus(), "kubectl logs -n default a-0 -f"),
    ],
)
def test_a_log_is_named_only_where_there_is_one(
    reason: Reason, backend: BackendStatus, expected: str
) -> None:
    """`--previous` fails for a Pod that was not restarted, and a failed Pod is deleted."""
    every = [kind for kind in conditions.CONDITIONS if kind != conditions.READY]
    model = builders.a_model("a", conditions=[*every, ("Ready", "False", reason)], backend_status=backend)
    assert next_steps.next_step(model).message.endswith(expected)


def test_a_pod_that_no_node_takes_is_not_waited_for() -> None:
    """The scheduler has said what it lacks."""
    every = [(kind, "True", kind, "") for kind in conditions.CONDITIONS if kind != conditions.READY]
    full = ("Ready", "False", Reason.STARTING, "Pod is waiting for the scheduler: 0/2 nodes are available")
    model = a_model(*every, full)
    backend = BackendStatus(loading_stage="Scheduling")
    model = msgspec.structs.replace(model, status=msgspec.structs.replace(model.status, backend=backend))
    step = next_steps.next_step(model)
    assert step.action == ACT
    assert step.message.endswith("kubectl describe pod -n default a-0")


def test_a_pod_that_lacks_what_its_message_names_is_not_waited_for() -> None:
    """A Secret that does not exist comes by no waiting; without a cause there is nothing to do."""
    every = [(kind, "True", kind, "") for kind in conditions.CONDITIONS if kind != conditions.READY]
    for note, action in (('(CreateContainerConfigError: secret "x" not found)', ACT), ("", WAIT)):
        message = f"Pod is starting on node local {note}".rstrip()
        model = a_model(*every, ("Ready", "False", Reason.STARTING, message))
        backend = BackendStatus(loading_stage="Image")
        model = msgspec.structs.replace(model, status=msgspec.structs.replace(model.status, backend=backend))
        assert next_steps.next_step(model).action == action


SINCE = "2026-11-29T06:00:00Z"
LATER = 1_795_932_000.0 + 372
"""Six minutes and twelve seconds after SINCE, as seconds since 1970."""


def aged(model: Model) -> Model:
    """Return a Model whose conditions changed at SINCE."""
    changed = tuple(msgspec.structs.replace(c, last_transition_time=SINCE) for c in model.status.conditions)
    return msgspec.structs.replace(model, status=msgspec.structs.replace(model.status, conditions=changed))


def test_each_line_says_since_when_its_status_is_so() -> None:
    """By the time that the condition itself has; its status, since the reason may have changed later."""
    lines = list(answer(aged(a_model(ACCEPTED, PLACED)), now=LATER))
    assert "Accepted  True for 6m12s" in lines[1]
    assert " for " not in lines[3]
    assert "True for 0s" in list(answer(aged(a_model(ACCEPTED)), now=LATER - 1000))[1]


def test_json_has_a_stable_shape() -> None:
    """The keys that docs/how-to/why-not.md documents, always all of them."""
    model, group = queued(a_holder("b", turn=41), LEASE)
    printed = msgspec.to_builtins(explanation(aged(model), group, [held_by("b", 100)], LATER))
    assert list(printed) == [
        *("namespace", "name", "generation", "phase", "reason", "message", "deleting", "endpoint"),
        *("conditions", "group", "download", "expectedTime", "next"),
    ]
    assert printed["conditions"][4] == {
        "type": "Granted",
        "owner": "arbiter",
        "status": "False",
        "reason": "Queued",
        "message": "",
        "since": SINCE,
        "ageSeconds": 372,
        "atRest": False,
        "current": True,
    }
    assert printed["conditions"][5]["since"] is None
    assert printed["group"]["holders"] == (
        {"kind": "Model", "name": "b", "turn": 41, "step": "Granted"},
        {"kind": "GPULease", "name": "game", "turn": 2, "step": "Granted"},
    )
    assert list(printed["next"]) == ["action", "message"]
    bare = msgspec.to_builtins(explanation(a_model()))
    assert list(bare) == list(printed)
    assert bare["group"] is None


def test_the_page_documents_every_key_of_the_json() -> None:
    """One that is not on the page is not reliable."""
    page = (ROOT / "docs/how-to/why-not.md").read_text()
    for struct in (Explanation, Answer, GroupAnswer, HolderOfGroup, NextStep):
        for field in msgspec.structs.fields(struct):
            assert f"`{field.encode_name}`" in page, field.encode_name
