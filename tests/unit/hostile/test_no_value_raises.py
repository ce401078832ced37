"""Whatever a tenant, an engine or a client writes: no function of a shared component raises because of it.

What cannot be read is left out or said in a condition; the other objects are served as before.
"""

import contextlib
import copy
import itertools
import json
from collections.abc import Iterable
from typing import Any, get_args

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flexinfer import backends
from flexinfer.api import kinds, phase
from flexinfer.api.kinds import JOBS, MODELS, NODES, PODS, Kind
from flexinfer.api.model import Model
from flexinfer.api.numbers import whole_number
from flexinfer.arbiter import __main__ as arbiter
from flexinfer.arbiter.sampling import awaited_samples
from flexinfer.cli import explanation, sentences
from flexinfer.events import codec, events, subjects, workload
from flexinfer.launcher import __main__ as launcher
from flexinfer.launcher.load_watch import loaded
from flexinfer.launcher.memory import Memory
from flexinfer.placer import __main__ as placer
from flexinfer.prefetcher import __main__ as prefetcher
from flexinfer.prefetcher.report import report_of
from flexinfer.proxy import openai, routing
from flexinfer.proxy.models import ModelTable
from flexinfer.proxy.view import Route
from flexinfer.reaper import __main__ as reaper
from flexinfer.runtime.kubernetes import objects
from flexinfer.runtime.settings import Settings
from flexinfer.state.actions import WriteStatus
from flexinfer.state.apply import apply_events, resync
from flexinfer.state.observed import Observation, ObservedState
from flexinfer.watcher.cache import KINDS, ClusterCache
from flexinfer.watcher.diff import key_of
from flexinfer.watcher.status_decision import next_write
from tests.builders import NOW
from tests.unit.hostile.messages import MESSAGES, hostile_messages
from tests.unit.hostile.objects import (
    ANYTHING,
    HUGE,
    a_model,
    cluster,
    hostile_clusters,
    paths,
    replaced,
    with_text,
)

CONTROLLERS = [part.controller(Settings()) for part in (placer, prefetcher, reaper, arbiter, launcher)]
QUICK = settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def readable(cluster_: Iterable[tuple[Kind[Any], Any]]) -> list[tuple[Kind[Any], Any]]:
    """Return what the client reads of objects that the API server lists."""
    read = []
    for kind, body in cluster_:
        try:
            read.append((kind, objects.read(kind, msgspec.json.encode(body))))
        except objects.UnreadableError:
            assert objects.name_of(msgspec.json.encode(body))
    return read


def published(cluster_: Iterable[tuple[Kind[Any], Any]]) -> list[events.AnyEvent]:
    """Return what the watcher publishes of a cluster, as readers decode it."""
    cache = ClusterCache()
    for kind in KINDS:
        cache.replace_all(kind, (), "1")
    for kind, item in cluster_:
        cache.upsert(kind, item)
    facts = [cache.event(key) for key in cache.subjects()]
    return [codec.decode(codec.encode(fact)) for fact in facts if fact is not None]


def observed(observations: Iterable[events.AnyEvent]) -> ObservedState:
    """Return the state after the events."""
    state = apply_events(ObservedState(), [Observation(event, NOW) for event in observations])
    return msgspec.structs.replace(state, connected_since=0.0)


def decide_everything(state: ObservedState) -> None:
    """Let every component decide, now and later, and encode what it would write."""
    for controller in CONTROLLERS:
        for key, now in itertools.product(controller.keys(state), (NOW, NOW + 5, NOW + 700)):
            for action in controller.decide(state, controller.memory, key, now):
                if isinstance(action, WriteStatus):
                    msgspec.json.encode(action.status)


def show(model: Model) -> None:
    """Do what people and clients see of a Model."""
    phase.explain(model.status.conditions, model.metadata.generation)
    list(explanation.answer(model))
    sentences.summary(model)
    openai.listing([model], "default")
    table = ModelTable()
    table.observe(model)
    routing.find_model("llama", table, "default")
    routing.permanent_failure(model)
    Route(model).update(model)


@QUICK
@given(hostile_clusters())
def test_no_value_of_an_object_ends_a_component(objects_: list[tuple[Kind[Any], Any]]) -> None:
    """On a Pod, Job, PVC, node or Model: from the reply of the API server to the last decision."""
    read = readable(objects_)
    facts = published(read)
    decide_everything(observed(facts))
    for event in facts:
        sentences.sentence(event)
        subjects.subject_of(event)
    for model in (item for kind, item in read if kind is MODELS):
        assert next_write(model, NOW, NOW) is not None
        show(model)


@pytest.mark.parametrize("text", ["", "1.2.3Ki", pytest.param("9" * 400, id="a long number")])
def test_no_text_in_any_field_of_an_object_ends_a_component(text: str) -> None:
    """Each field by itself, while all others are as they should be."""
    for path, objects_ in with_text(text):
        try:
            decide_everything(observed(published(readable(objects_))))
        except Exception as error:
            error.add_note(f"{path} is {text[:9]!r}")
            raise


@QUICK
@given(st.text())
def test_no_output_of_a_job_ends_the_prefetcher(text: str) -> None:
    """It may be any image's: what is no report is none, and numbers fit into status.cache."""
    report = report_of(workload.JobFacts(name="j", uid="u", report=text))
    assert 0 <= report.bytes < 2**63


@pytest.mark.parametrize(
    "text", ['{"x":' + "[" * 4000, '{"bytes":-5}', '{"bytes":' + "9" * 400 + "}", '{"revision":"\ud800"}']
)
def test_a_report_that_no_program_of_ours_wrote_is_none(text: str) -> None:
    """4,096 brackets fit into a termination message."""
    report = report_of(workload.JobFacts(name="j", uid="u", report=text))
    assert report.bytes in (0, 2**63 - 1)


@QUICK
@given(st.one_of(st.binary(), ANYTHING.map(lambda value: json.dumps(value).encode())))
def test_no_message_on_nats_ends_a_reader(body: bytes) -> None:
    """It is an event, or said to be none."""
    with_type = b'{"type":"GpusObserved","node":"a","boot":"b","sample":1,"devices":[' + body + b"]}"
    for message in (body, with_type):
        try:
            state = observed([codec.decode(message)])
        except codec.UndecodableError:
            continue
        decide_everything(state)


PUBLISHED = [codec.encode(event) for event in published(readable(cluster()))]


@settings(QUICK, max_examples=300)
@given(hostile_messages(PUBLISHED))
def test_no_value_of_a_message_ends_a_component(bodies: list[bytes]) -> None:
    """From the bytes to the last decision, and to the line of `flexinfer tap`; companions look at the state too."""
    state = msgspec.structs.replace(ObservedState(), connected_since=0.0)
    for body in bodies:
        try:
            event = codec.decode(body)
        except codec.UndecodableError:
            continue
        assert sentences.sentence(event)
        codec.encode(event)
        with contextlib.suppress(TypeError):  # one that is never published
            subjects.subject_of(event)
        before, state = state, apply_events(state, [Observation(event, NOW)])
        for controller in CONTROLLERS:
            list(controller.touched(before, state, event))
    decide_everything(state)
    for controller in CONTROLLERS:
        controller.follow(state)
        for observe in controller.observers:
            observe(state, controller.memory)
    list(loaded(state, Memory()))
    awaited_samples(state, NOW)
    resync(state, [], NOW)


def test_no_number_of_a_message_ends_its_reader() -> None:
    """Each of them, one at a time; `flexinfer tap` ended with an OverflowError at the free memory of a device."""
    for message, number in itertools.product(MESSAGES, (-1, -HUGE, 2**64, HUGE)):
        for path in paths(message):
            changed = copy.deepcopy(message)
            replaced(changed, path, number)
            try:
                event = codec.decode(json.dumps(changed).encode())
            except codec.UndecodableError:
                continue
            assert sentences.sentence(event)


def test_messages_are_of_every_kind_that_is_read() -> None:
    """None is left out, and each can be read before anything in it is changed."""
    read = {type(codec.decode(body)) for body in (*PUBLISHED, *(json.dumps(m).encode() for m in MESSAGES))}
    never_published = {events.ModelRestored, events.GroupRestored, events.LeaseRestored, events.LeaseTimed}
    assert read == set(get_args(events.AnyEvent)) - never_published


@QUICK
@given(st.text())
def test_no_subject_ends_a_reader(subject: str) -> None:
    """A client that may publish may choose any."""
    subjects.kind_of(subject)
    key_of(subject)
    key_of(f"flexinfer.model.{subject}.x")
    assert subjects.decode(subjects.encode(subject)) == subject


@pytest.mark.parametrize("text", ["abc", "-1", "", "1.5", "٣", "²", "9" * 400, "1_0", " 1"])
def test_a_turn_that_is_no_number_is_that_of_no_group(text: str) -> None:
    """One annotation of one Pod once ended the launcher for all namespaces."""
    assert whole_number(text) is None
    pod = dict(cluster()[4][1])
    pod["metadata"] = pod["metadata"] | {
        "labels": {"flexinfer.ai/turn": text},
        "annotations": {"flexinfer.ai/generation": text},
    }
    read = msgspec.convert(pod, kinds.PODS.type)
    facts = workload.pod_facts(read)
    assert (facts.turn, facts.generation) == (workload.NO_TURN, 0)
    assert len(workload.odd_numbers(read)) == 2


def test_a_model_that_cannot_be_read_says_which_field() -> None:
    """Its metadata and conditions are read, so it can be refused and deleted."""
    body = a_model()
    body["spec"]["gpu"]["count"] = "many"
    model = objects.read(MODELS, msgspec.json.encode(body))
    write = next_write(model, NOW, NOW)
    assert isinstance(write, WriteStatus)
    assert (write.condition.status, write.condition.reason) == ("False", "InvalidSpec")
    assert "$.spec.gpu.count" in write.condition.message
    assert model.metadata.finalizers == ("flexinfer.ai/running",)
    assert len(model.status.conditions) == 6


@pytest.mark.parametrize("levels", [33, 500, 5000])
def test_a_config_that_is_nested_deeper_than_any_program_reads_is_refused(levels: int) -> None:
    """5,000 levels fit into an object of the API server, and end a program that recurses."""
    body = msgspec.json.encode(a_model()).replace(
        b'"contextSize":4096', b'"contextSize":' + b"[" * levels + b"]" * levels
    )
    model = objects.read(MODELS, body)
    write = next_write(model, NOW, NOW)
    assert isinstance(write, WriteStatus)
    assert write.condition.status == "False"
    assert codec.decode(codec.encode(events.ModelObserved(model=model)))


def test_an_object_that_cannot_be_read_is_left_out_alone() -> None:
    """Of a kind whose metadata is all that there is to say about it."""
    pods = [body for kind, body in cluster() if kind is PODS]
    pods[0]["status"]["containerStatuses"] = "none"
    assert [item.metadata.name for _, item in readable((PODS, pod) for pod in pods)] == ["llama-0"]
    assert [kind for kind, _ in readable(cluster())].count(JOBS) == 1
    assert [kind for kind, _ in readable(cluster())].count(NODES) == 1


@pytest.mark.parametrize("backend", backends.all_backends(), ids=lambda backend: backend.name)
@settings(max_examples=12, deadline=None)
@given(ANYTHING)
def test_no_value_of_a_config_ends_a_component(backend: backends.Backend, value: object) -> None:
    """Of any key of any engine, also while Accepted is still that of an earlier spec, or was written by another client."""
    for key in (*backend.config, "unknown"):
        body = a_model()
        body["spec"] |= {"backend": backend.name, "source": "HF://o/r", "config": {key: value}}
        [(_, model)] = readable([(MODELS, body)])
        assert next_write(model, NOW, NOW) is not None
        show(model)
        decide_everything(observed([events.ModelObserved(model=model)]))


@pytest.mark.parametrize("backend", backends.all_backends(), ids=lambda backend: backend.name)
def test_json_of_any_depth_in_a_text_of_a_config_ends_no_component(backend: backends.Backend) -> None:
    """A thousand brackets are more than any decoder follows."""
    deep = '{"x":' + "[" * 5000 + "]" * 5000 + "}"
    for key in (*backend.config, "unknown"):
        body = a_model()
        body["spec"] |= {"backend": backend.name, "source": "HF://o/r", "config": {key: deep}}
        [(_, model)] = readable([(MODELS, body)])
        assert next_write(model, NOW, NOW) is not None
        decide_everything(observed([events.ModelObserved(model=model)]))
