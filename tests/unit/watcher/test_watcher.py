"""The watcher as a whole, in virtual time.

What the API server holds reaches the stream, and every Model gets Accepted and a phase.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from typing import Any

import msgspec
import pytest

from flexinfer.api import conditions, kube
from flexinfer.api.conditions import Condition
from flexinfer.api.labels import MODEL_UID_LABEL
from flexinfer.api.metadata import Metadata
from flexinfer.api.model import Model
from flexinfer.api.phase import Phase
from flexinfer.api.reasons import Reason
from flexinfer.events import codec, events
from flexinfer.events.codec import StreamEntry
from flexinfer.runtime.kubernetes.api import (
    CLAIMS,
    LEASES,
    MODELS,
    NODES,
    PODS,
    ConflictError,
    ExpiredError,
    UnavailableError,
)
from flexinfer.runtime.nats.connection import NatsUnavailableError
from flexinfer.watcher.__main__ import mirror
from tests.builders import a_condition, a_model
from tests.runtimes import a_runtime
from tests.simulation.loop import run
from tests.unit.watcher.scripted import DictStream, ScriptedCluster

MODEL, WORKLOAD = "flexinfer.model.default.llama", "flexinfer.workload.default.llama"


class Scene:
    """A running watcher and its surroundings."""

    def __init__(self) -> None:
        self.cluster, self.stream = ScriptedCluster(), DictStream()
        self.ready = False
        self.failures: list[str] = []

    async def until(self, true: Callable[[], object], within: float = 300.0) -> float:
        """Wait until something is true; returns the seconds that it took."""
        started_at = asyncio.get_running_loop().time()
        async with asyncio.timeout(within):
            while not true():
                await asyncio.sleep(0.001)
        return asyncio.get_running_loop().time() - started_at

    def model(self, name: str = "llama") -> Model:
        """Return a Model as the API server holds it."""
        model: Model = self.cluster.objects["models"][f"default/{name}"]
        return model

    def published(self) -> Model | None:
        """Return the Model as readers of the stream observe it."""
        event = self.stream.event(MODEL)
        return event.model if isinstance(event, events.ModelObserved) else None


def play(act: Callable[[Scene], Awaitable[None]], prepare: Callable[[Scene], None] = lambda _: None) -> None:
    """Run a watcher in virtual time while a scene is acted."""

    async def staged() -> None:
        scene = Scene()
        prepare(scene)
        runtime = a_runtime(
            "watcher",
            cluster=scene.cluster,
            set_ready=lambda up: setattr(scene, "ready", up),
            report_failure=lambda key, _error: scene.failures.append(key),
        )
        work = asyncio.create_task(mirror(runtime, scene.stream))
        try:
            await act(scene)
            assert not work.done(), work.exception()
        finally:
            work.cancel()

    coroutine: Coroutine[Any, Any, None] = staged()
    run(coroutine)


def a_pod(model: Model, **changes: Any) -> kube.Pod:
    """Return a Pod of a Model on a node."""
    status = kube.PodStatus(phase="Running", pod_ip=changes.pop("ip", ""))
    meta = Metadata(
        name=f"{model.metadata.name}-0",
        namespace="default",
        uid="pod",
        labels={MODEL_UID_LABEL: model.uid},
    )
    return kube.Pod(metadata=meta, spec=kube.PodSpec(node_name=changes.pop("node", "a")), status=status)


def a_claim(name: str) -> kube.Claim:
    """Return a bound PVC."""
    return kube.Claim(
        metadata=Metadata(name=name, namespace="default"), status=kube.ClaimStatus(phase="Bound")
    )


def new_model(scene: Scene) -> None:
    """Create a Model."""
    scene.cluster.put(MODELS, a_model(placement=None))


def test_a_new_model_is_accepted_and_reaches_the_stream() -> None:
    """The first steps of every Model's life."""

    async def act(scene: Scene) -> None:
        await scene.until(lambda: scene.ready)
        scene.cluster.put(MODELS, a_model(placement=None))
        await scene.until(lambda: (model := scene.published()) and model.is_true(conditions.ACCEPTED))
        assert scene.model().status.phase == Phase.PENDING
        assert scene.model().status.message == "Accepted=True (Accepted): the spec is valid"

    play(act)


def test_while_components_judge_a_spec_the_message_stays_true() -> None:
    """It names the last condition in line when it was written, and after a second the component that it waits for."""

    async def act(scene: Scene) -> None:
        await scene.until(lambda: scene.model().is_true(conditions.ACCEPTED))
        accepted = scene.model().status.message
        write(scene, "Placed")
        await asyncio.sleep(0.5)
        assert scene.model().status.message == accepted
        took = await scene.until(lambda: scene.model().status.message != accepted)
        assert took < 0.6
        assert scene.model().status.message == "waiting for Cached: not written yet by the prefetcher"
        write(scene, "Cached")
        assert await scene.until(lambda: scene.model().status.message.startswith("Cached=True")) < 0.005

    play(act, new_model)


def test_a_start_goes_before_the_message_that_it_is_due() -> None:
    """A write in between would conflict with those of the start; one that does not begin is said."""

    async def act(scene: Scene) -> None:
        await scene.until(lambda: scene.model().is_true(conditions.ACCEPTED))
        write(scene, "Placed", "Cached", "Wanted", "Granted", ("Ready", "False", Reason.STOPPED))
        took = await scene.until(lambda: scene.model().status.reason == Reason.STOPPED)
        assert 0.19 < took < 0.21

    play(act, new_model)


def test_a_refused_model_is_stalled_until_its_spec_is_corrected() -> None:
    """What waits by kstatus reads it as failed, and not as in progress; the reason is the one that holds it up."""

    async def act(scene: Scene) -> None:
        await scene.until(lambda: scene.ready)
        scene.cluster.put(MODELS, a_model(backend="llamacp", placement=None))
        stalled = await until_stalled(scene, expected=True)
        assert (stalled.reason, scene.model().status.reason) == (
            Reason.UNKNOWN_BACKEND,
            Reason.UNKNOWN_BACKEND,
        )
        assert stalled.message.startswith("Accepted is False: spec.backend 'llamacp' is unknown")
        refused = scene.model()
        corrected = msgspec.structs.replace(
            refused, spec=msgspec.structs.replace(refused.spec, backend="llamacpp")
        )
        meta = msgspec.structs.replace(corrected.metadata, generation=2)
        scene.cluster.put(MODELS, msgspec.structs.replace(corrected, metadata=meta))
        await until_stalled(scene, expected=False)
        await scene.until(lambda: scene.model().status.reason == "NotPlaced")

    play(act)


def test_a_model_whose_source_does_not_exist_is_stalled() -> None:
    """Of any component: the phase is Failed."""

    async def act(scene: Scene) -> None:
        await scene.until(lambda: scene.ready)
        failed = ("Accepted", "Placed", ("Cached", "False", Reason.SOURCE_NOT_FOUND))
        scene.cluster.put(MODELS, a_model(conditions=failed))
        stalled = await until_stalled(scene, expected=True)
        assert (stalled.reason, scene.model().status.phase) == (Reason.SOURCE_NOT_FOUND, Phase.FAILED)

    play(act)


@pytest.mark.parametrize("wanted", [("Wanted", "False", Reason.IDLE), ("Wanted", "True", "Requested")])
def test_a_model_that_is_idle_or_starts_is_not_stalled(wanted: tuple[str, str, str]) -> None:
    """Something still happens, or nothing needs to."""

    async def act(scene: Scene) -> None:
        await scene.until(lambda: scene.ready)
        scene.cluster.put(
            MODELS,
            a_model(
                conditions=(
                    "Accepted",
                    "Placed",
                    "Cached",
                    wanted,
                    "Granted",
                    ("Ready", "False", "NotStarted"),
                )
            ),
        )
        await scene.until(lambda: scene.model().status.phase)
        assert scene.model().condition(conditions.STALLED) is None
        assert scene.model().status.reason == (Reason.IDLE if wanted[1] == "False" else "NotStarted")

    play(act)


async def until_stalled(scene: Scene, *, expected: bool) -> Condition:
    """Wait until the Model has the condition Stalled, or has it no more; returns it."""
    await scene.until(lambda: (scene.model().condition(conditions.STALLED) is not None) == expected)
    return scene.model().condition(conditions.STALLED) or a_condition(conditions.STALLED)


def test_a_name_that_means_two_models_is_a_condition_of_both_until_one_gives_it_up() -> None:
    """They are still accepted; a Model in another namespace does not matter."""

    def messages(scene: Scene) -> list[str]:
        held = [model.condition(conditions.ACCEPTED) for model in scene.cluster.objects["models"].values()]
        return [c.message for c in held if c is not None and c.true and c.reason == Reason.NAME_CONFLICT]

    async def act(scene: Scene) -> None:
        await scene.until(lambda: scene.ready)
        scene.cluster.put(MODELS, a_model("a", litellm={"aliases": ["gpt-4"]}))
        scene.cluster.put(MODELS, a_model("c", namespace="team", litellm={"aliases": ["gpt-4"]}))
        await scene.until(lambda: scene.model("a").is_true(conditions.ACCEPTED))
        assert messages(scene) == []
        scene.cluster.put(MODELS, a_model("b", litellm={"copilotAlias": "gpt-4"}))
        await scene.until(lambda: len(messages(scene)) == 2)
        assert messages(scene)[0].endswith(
            "; names that mean another Model too: gpt-4 (alias here, alias of b); change one of each"
        )
        scene.cluster.drop(MODELS, "default/b")
        await scene.until(
            lambda: (c := scene.model("a").condition(conditions.ACCEPTED)) and c.reason == Reason.ACCEPTED
        )

    play(act)


def test_nothing_is_published_before_every_kind_was_listed() -> None:
    """What a cache that is not synced lacks proves nothing."""

    def prepare(scene: Scene) -> None:
        scene.stream.store["flexinfer.node.b"] = StreamEntry(1, b"{}")
        scene.cluster.faults["list"] = [UnavailableError("no answer")] * 3

    async def act(scene: Scene) -> None:
        await asyncio.sleep(0.05)
        assert scene.stream.published == []
        await scene.until(lambda: scene.ready)
        assert [type(event) for event in scene.stream.published] == [events.NodeDeleted]

    play(act, prepare)


def test_accepted_is_written_although_nats_does_not_answer() -> None:
    """Validation waits for nothing."""

    async def act(scene: Scene) -> None:
        scene.cluster.put(MODELS, a_model(placement=None))
        took = await scene.until(lambda: scene.model().is_true(conditions.ACCEPTED))
        assert took < 0.01
        assert scene.stream.published == []

    def prepare(scene: Scene) -> None:
        scene.stream.gate = asyncio.Event()

    play(act, prepare)


def test_a_models_pvc_is_published_before_the_model() -> None:
    """It must not seem to be missing."""

    def prepare(scene: Scene) -> None:
        scene.cluster.put(CLAIMS, a_claim("models"))

    async def act(scene: Scene) -> None:
        await scene.until(lambda: scene.ready)
        new_model(scene)
        await scene.until(scene.published)
        kinds = [type(event) for event in scene.stream.published]
        assert kinds[:2] == [events.WorkloadObserved, events.ModelObserved]

    play(act, prepare)


def test_a_pods_address_is_published_at_once() -> None:
    """A request waits for it."""

    async def act(scene: Scene) -> None:
        await scene.until(lambda: scene.ready)
        scene.cluster.put(PODS, a_pod(scene.model(), ip="127.0.0.9"))
        took = await scene.until(
            lambda: isinstance(e := scene.stream.event(WORKLOAD), events.WorkloadObserved) and e.pods
        )
        assert took < 0.005

    play(act, new_model)


def test_a_burst_of_changes_does_not_queue_up() -> None:
    """Of each subject one publish is in flight, and then the newest state follows."""

    async def act(scene: Scene) -> None:
        await scene.until(lambda: scene.model().status.phase and scene.ready)
        await asyncio.sleep(1)
        scene.stream.gate, before = asyncio.Event(), len(scene.stream.published)
        for number in range(100):
            model = scene.model()
            labels = {"burst": str(number)}
            scene.cluster.put(
                MODELS,
                msgspec.structs.replace(
                    model, metadata=msgspec.structs.replace(model.metadata, labels=labels)
                ),
            )
            await asyncio.sleep(0.001)
        scene.stream.gate.set()
        await scene.until(lambda: (model := scene.published()) and model.metadata.labels.get("burst") == "99")
        assert len(scene.stream.published) - before == 2

    play(act, new_model)


def test_a_deleted_model_is_published_with_its_uid() -> None:
    """So that a later namesake is not taken for it."""

    async def act(scene: Scene) -> None:
        await scene.until(scene.published)
        scene.cluster.drop(MODELS, "default/llama")
        await scene.until(lambda: isinstance(scene.stream.published[-1], events.ModelDeleted))
        assert scene.stream.published[-1].uid == "uid-llama"  # type: ignore[union-attr]

    play(act, new_model)


def test_what_a_silent_watch_missed_shows_in_the_next_list() -> None:
    """Deletions included."""

    async def act(scene: Scene) -> None:
        await scene.until(scene.published)
        scene.cluster.deaf = True
        scene.cluster.drop(MODELS, "default/llama")
        scene.cluster.put(MODELS, a_model("other", placement=None))
        await scene.until(
            lambda: MODEL in scene.stream.held and scene.stream.held[MODEL].body is None, within=75
        )
        assert scene.stream.event("flexinfer.model.default.other") is not None

    play(act, new_model)


def test_a_wiped_stream_is_filled_again() -> None:
    """The comparison is with the stream, never with a memory of what was published."""

    async def act(scene: Scene) -> None:
        await scene.until(lambda: scene.published() and scene.ready)
        scene.stream.store.clear()
        scene.stream.mark_suspect()
        assert await scene.until(scene.published) < 0.1

    play(act, new_model)


def test_a_rolled_back_stream_heals_at_the_next_resync() -> None:
    """Even a loss that no connection shows."""

    async def act(scene: Scene) -> None:
        await scene.until(lambda: scene.published() and scene.ready)
        await asyncio.sleep(2)
        scene.stream.store.clear()
        assert await scene.until(scene.published, within=75) > 1

    play(act, new_model)


def test_a_refused_publish_is_followed_by_a_comparison() -> None:
    """Another writer wrote the subject, or NATS did not answer."""

    async def act(scene: Scene) -> None:
        await scene.until(lambda: scene.published() and scene.ready)
        scene.stream.faults = [NatsUnavailableError("no answer")]
        scene.cluster.put(PODS, a_pod(scene.model()))
        assert await scene.until(lambda: scene.stream.event(WORKLOAD)) < 1

    play(act, new_model)


def test_the_watermark_follows_the_last_change_and_the_clock() -> None:
    """100 ms after a change, and every 5 s without one."""

    async def act(scene: Scene) -> None:
        await scene.until(lambda: scene.published() and scene.ready)
        await asyncio.sleep(2)
        before = scene.stream.marks
        scene.cluster.put(PODS, a_pod(scene.model()))
        took = await scene.until(lambda: scene.stream.marks > before)
        assert 0.1 <= took < 0.12
        idle = await scene.until(lambda: scene.stream.marks > before + 1)
        assert 4.9 <= idle <= 5.1

    play(act, new_model)


@pytest.mark.parametrize(
    ("written", "phase"),
    [
        ((("Wanted", "False", Reason.IDLE),), Phase.IDLE),
        (("Wanted", "Granted", ("Ready", "False", Reason.STARTING)), Phase.LOADING),
        (("Wanted", "Granted", "Ready"), Phase.READY),
    ],
)
def test_the_phase_is_written_at_once(written: tuple[Any, ...], phase: Phase) -> None:
    """A version that its message contradicts is followed by the next."""

    async def act(scene: Scene) -> None:
        await scene.until(lambda: scene.model().is_true(conditions.ACCEPTED))
        write(scene, "Placed", "Cached", *written)
        assert await scene.until(lambda: scene.model().status.phase == phase) < 0.005

    play(act, new_model)


@pytest.mark.parametrize("steps", range(12))
def test_a_write_that_was_overtaken_delays_nothing(steps: int) -> None:
    """Another component wrote its condition meanwhile: that is no reversal, after which the next write would wait."""

    async def act(scene: Scene) -> None:
        await scene.until(lambda: scene.model().is_true(conditions.ACCEPTED))
        write(scene, "Placed")
        for _ in range(steps):
            await asyncio.sleep(0)
        write(scene, "Wanted")
        await scene.until(lambda: scene.model().status.reason == "NotCached")
        write(scene, ("Cached", "False", Reason.CHECKING))
        assert await scene.until(lambda: scene.model().status.reason == Reason.CHECKING) < 0.005

    play(act, new_model)


def test_a_phase_is_derived_again_after_a_conflict() -> None:
    """From older conditions it would be wrong."""

    async def act(scene: Scene) -> None:
        await scene.until(lambda: scene.model().is_true(conditions.ACCEPTED))
        scene.cluster.faults["apply"] = [ConflictError("modified", 409)]
        write(scene, "Placed")
        await scene.until(lambda: "Cached" in scene.model().status.message)
        phases = {status["phase"] for status in scene.cluster.written}
        assert phases == {Phase.PENDING}

    play(act, new_model)


def test_an_unavailable_api_server_is_retried_with_back_off() -> None:
    """At most a few requests a second, and Accepted is written once it answers."""

    def prepare(scene: Scene) -> None:
        scene.cluster.faults["apply"] = [UnavailableError("no answer")] * 3
        new_model(scene)

    async def act(scene: Scene) -> None:
        took = await scene.until(lambda: scene.model().is_true(conditions.ACCEPTED))
        assert 0.5 < took < 5

    play(act, prepare)


def test_a_bug_in_a_write_costs_its_model_and_not_the_process() -> None:
    """It is reported and tried again; the other Model is served meanwhile."""

    def prepare(scene: Scene) -> None:
        new_model(scene)
        scene.cluster.put(MODELS, a_model("other", placement=None))
        scene.cluster.faults["apply"] = [ValueError("not foreseen")]

    async def act(scene: Scene) -> None:
        names = ("llama", "other")
        await scene.until(lambda: all(scene.model(name).is_true(conditions.ACCEPTED) for name in names))
        assert len(scene.failures) == 1

    play(act, prepare)


def test_a_bug_in_a_publish_costs_its_subject_and_not_the_process() -> None:
    """The comparison publishes it."""

    async def act(scene: Scene) -> None:
        await scene.until(lambda: scene.ready)
        scene.stream.faults = [ValueError("not foreseen")]
        new_model(scene)
        await scene.until(scene.published)
        assert len(scene.failures) == 1

    play(act)


def test_a_watcher_at_rest_writes_nothing() -> None:
    """Ten quiet minutes cost no status write and no message but watermarks."""

    async def act(scene: Scene) -> None:
        await scene.until(lambda: scene.model().status.phase and scene.ready)
        await asyncio.sleep(1)
        before = len(scene.cluster.written), len(scene.stream.published)
        await asyncio.sleep(600)
        assert (len(scene.cluster.written), len(scene.stream.published)) == before

    play(act, new_model)


def test_leases_are_not_watched() -> None:
    """Every kubelet and every component renews one all the time."""

    async def act(scene: Scene) -> None:
        await scene.until(lambda: scene.published() and scene.ready)
        await asyncio.sleep(2)
        before = len(scene.stream.published)
        scene.cluster.put(LEASES, kube.Lease(metadata=Metadata(name="node-a", namespace="kube-node-lease")))
        await asyncio.sleep(1)
        assert len(scene.stream.published) == before

    play(act, new_model)


def test_a_pod_is_published_before_the_sums_of_its_node() -> None:
    """Else the placer would observe a full node without the Pods that fill it."""

    def prepare(scene: Scene) -> None:
        new_model(scene)
        scene.cluster.put(NODES, kube.Node(metadata=Metadata(name="a")))

    async def act(scene: Scene) -> None:
        await scene.until(lambda: scene.model().status.phase and scene.ready)
        await asyncio.sleep(1)
        before = len(scene.stream.published)
        scene.cluster.put(PODS, a_pod(scene.model()))
        await asyncio.sleep(0.1)
        kinds = [type(event) for event in scene.stream.published[before:]]
        assert kinds == [events.WorkloadObserved, events.NodeObserved]

    play(act, prepare)


def test_an_expired_watch_lists_again() -> None:
    """410 at the start and later."""

    async def act(scene: Scene) -> None:
        await scene.until(lambda: scene.published() and scene.ready)
        scene.cluster.faults["change"] = [ExpiredError("too old", 410)]
        scene.cluster.put(MODELS, a_model("second", placement=None))
        await scene.until(lambda: scene.stream.event("flexinfer.model.default.second"), within=1)

    play(act, new_model)


def test_a_watch_that_ends_without_an_error_is_resumed() -> None:
    """From the last version observed, a bookmark's included."""

    async def act(scene: Scene) -> None:
        await scene.until(lambda: scene.ready and scene.cluster.watched(MODELS))
        scene.cluster.bookmark(MODELS, "555")
        scene.cluster.end_watches(MODELS)
        await scene.until(lambda: ("watch", "models", "555") in scene.cluster.asked, within=1)
        assert scene.cluster.asked.count(("list", "models", "")) == 1

    play(act, new_model)


@pytest.mark.parametrize("conditions", [(), ("Accepted",)])
def test_what_is_written_is_not_written_again(conditions: tuple[str, ...]) -> None:
    """By a watcher that restarts."""

    def prepare(scene: Scene) -> None:
        current = [a_condition(kind) for kind in conditions]
        scene.cluster.put(MODELS, a_model(conditions=current, placement=None))

    async def act(scene: Scene) -> None:
        await scene.until(lambda: scene.model().status.reason == "NotPlaced")
        before = len(scene.cluster.written)
        await asyncio.sleep(10)
        assert len(scene.cluster.written) == before

    play(act, prepare)


def write(scene: Scene, *written: str | tuple[str, str, str]) -> None:
    """Write conditions of other owners."""
    model = scene.model()
    added = tuple(a_condition(c) if isinstance(c, str) else a_condition(*c) for c in written)
    status = msgspec.structs.replace(model.status, conditions=(*model.status.conditions, *added))
    scene.cluster.put(MODELS, msgspec.structs.replace(model, status=status))


def restore(scene: Scene, backup: Mapping[str, Any], version: int) -> None:
    """Restore the API server from a backup of its Models: it continues from the version of that time."""
    scene.cluster.objects["models"] = dict(backup)
    scene.cluster.version = version
    scene.cluster.end_watches(MODELS)
    scene.cluster.faults["watch"] = [ExpiredError("too large resource version", 410)]


def test_the_stream_follows_an_api_server_that_was_restored_from_a_backup() -> None:
    """What was changed since is as it was, what was created since is deleted, and both are served again."""

    async def act(scene: Scene) -> None:
        await scene.until(lambda: (model := scene.published()) and model.is_true(conditions.ACCEPTED))
        backup, version = dict(scene.cluster.objects["models"]), scene.cluster.version
        before = scene.published()
        spec = msgspec.structs.replace(scene.model().spec, source="hf://since/then")
        scene.cluster.put(MODELS, msgspec.structs.replace(scene.model(), spec=spec))
        scene.cluster.put(MODELS, a_model("late", placement=None))
        await scene.until(lambda: scene.stream.event(MODEL.replace("llama", "late")))
        await scene.until(lambda: (model := scene.published()) and model.spec.source == "hf://since/then")
        restore(scene, backup, version)
        await scene.until(lambda: scene.published() == before)
        await scene.until(lambda: scene.stream.event(MODEL.replace("llama", "late")) is None)

    play(act, new_model)


def test_a_watcher_that_starts_after_the_api_server_was_restored_publishes_what_it_holds() -> None:
    """It knows the former life of the API server from the stream alone."""
    late = events.ModelObserved(model=a_model("late", version=900))

    def prepare(scene: Scene) -> None:
        new_model(scene)
        scene.stream.store[MODEL.replace("llama", "late")] = StreamEntry(1, codec.encode(late))

    async def act(scene: Scene) -> None:
        await scene.until(lambda: scene.stream.event(MODEL.replace("llama", "late")) is None)
        await scene.until(lambda: (model := scene.published()) and model.is_true(conditions.ACCEPTED))

    play(act, prepare)


def test_a_status_is_written_on_a_model_that_was_restored_to_before_it() -> None:
    """The newer state that the watcher remembers is void."""

    async def act(scene: Scene) -> None:
        backup, version = dict(scene.cluster.objects["models"]), scene.cluster.version
        await scene.until(lambda: (model := scene.published()) and model.is_true(conditions.ACCEPTED))
        restore(scene, backup, version)
        assert not scene.model().status.conditions
        await scene.until(lambda: scene.model().is_true(conditions.ACCEPTED))

    play(act, new_model)


def test_what_cannot_be_read_of_a_status_is_taken_out_before_anything_is_written(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """What can be read stays; a try that fails is repeated, and one on a Model that was written since waits for that."""
    placed = a_model(conditions=[a_condition("Placed")])
    odd = msgspec.structs.replace(
        placed, unreadable_status=("status.placement.devices[0]: Expected `object`",)
    )

    def prepare(scene: Scene) -> None:
        scene.cluster.faults["patch"] = [UnavailableError("no answer")]
        scene.cluster.put(MODELS, odd)

    async def act(scene: Scene) -> None:
        await scene.until(lambda: scene.model().condition(conditions.ACCEPTED))
        assert scene.model().unreadable_status == ()
        assert scene.model().condition(conditions.PLACED) == placed.condition(conditions.PLACED)
        await scene.until(lambda: (model := scene.published()) is not None and not model.unreadable_status)

    play(act, prepare)
    assert (
        "Model default/llama: what cannot be read of its status is taken out: status.placement" in caplog.text
    )
