"""The catalogue of the watcher: Accepted of every kind of spec, the phase's message of every set of conditions, and Stalled."""

import itertools
import re
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from flexinfer import backends, sources
from flexinfer.api import conditions, phase
from flexinfer.api.model import Cache, Gpu, Model, Serverless
from flexinfer.api.podspec import Resources, SecretReference, Toleration
from flexinfer.api.reasons import Reason
from flexinfer.backends import arguments
from flexinfer.sources import base, file, hf, ollama, pvc
from flexinfer.state.actions import WriteStatus
from flexinfer.watcher import accepted, status_decision
from tests.builders import a_condition, a_model, all_true
from tests.contract.wording import QUOTED, glued, not_rendered
from tests.unit.launcher.deciding import with_messages
from tests.unit.watcher.test_accepted import REFUSED, UNUSED, with_spec

MODULES = (accepted, status_decision, phase, sources, base, file, hf, ollama, pvc)
TOLERATIONS = (
    Toleration(key="a", operator="Near"),
    Toleration(key="", operator="Equal"),
    Toleration(key="a", operator="Exists", value="b"),
    Toleration(key="a", effect="NoSchedule", toleration_seconds=5),
)
SOURCES = (
    *("x", "s3://a", "HF://a", "HF://a--b/c", "ollama://a/b/c/d", "ollama://example.com/a/b", "ollama://\n"),
    *(
        "file://a",
        "file:///proc/x",
        "file:///a//b",
        "file:///a/../b",
        "pvc://A_b/x",
        "pvc://a/./b",
        "pvc://" + "a" * 3000,
    ),
)
_REMEDY = re.compile(
    r"; (use|set|the form is|it serves|lower|remove|name|correct|create|did you mean)|: (remove|name) |such as"
)
VALUES: tuple[Any, ...] = ("x", "", "a b", -1, 0, 10**12, 1.5, True, None, ["x"], [1], {"a": 1}, "{", "$(A)")


def specs() -> Iterator[Model]:
    """Yield Models of every kind of refusal, and of every remark about a valid spec."""
    yield from (
        model for case in (*REFUSED, *UNUSED) for model in [case.values[0]] if isinstance(model, Model)
    )
    yield from (with_spec(tolerations=(one,)) for one in TOLERATIONS)
    yield from (with_spec(source=source) for source in SOURCES)
    yield with_spec(serverless=Serverless(cold_start_timeout="soon"))
    yield with_spec(cache=Cache(size="-1Gi"), source="HF://a/b", config={"ggufFile": "x.gguf"})
    yield with_spec(source_secret_ref=SecretReference(name="s"))
    yield with_spec(
        cache=Cache(strategy="None", size="1Gi"), source="HF://a/b", config={"ggufFile": "x.gguf"}
    )
    yield from (with_spec(config={arguments.EXTRA: ["--seed", "7"][:number]}) for number in (1, 2))
    yield with_spec(backend="x", source="y")
    yield with_spec(resources=Resources(requests={"nvidia.com/gpu": 1}))
    yield msgspec.structs.replace(a_model(), unreadable="Expected `int`, got `str` - at `$.gpu.count`")


def configs() -> Iterator[Model]:
    """Yield Models of every backend with wrong values of every key."""
    for backend in backends.all_backends():
        source = "HF://a/b" if "HF" in backend.schemes else f"{backend.schemes[0]}://a"
        for gpu in (None, Gpu(vendor="nvidia"), Gpu(vendor="amd", count=9), Gpu(vendor="cpu")):
            yield with_spec(backend=backend.name, source=source, gpu=gpu)
        for key, value in itertools.product((*backend.keys, "nearlyAKey", arguments.EXTRA), VALUES):
            yield with_spec(
                backend=backend.name, source=source, gpu=Gpu(vendor="nvidia"), config={key: value}
            )


def of_specs() -> Iterator[str]:
    """Yield what Accepted says of each."""
    for model in (*specs(), *configs()):
        yield accepted.accepted(model).message
    for conflicts in (("a",), ("a", "b")):
        yield accepted.accepted(a_model(), conflicts).message


def states(quoted: str) -> Iterator[Model]:
    """Yield Models whose conditions end at each type, say no or nothing, are of an older spec, or quote what others write."""
    said = f"the API server rejected it: {conditions.clause(quoted)}"
    for number, kind in enumerate(conditions.CONDITIONS):
        before = conditions.CONDITIONS[:number]
        yield a_model(conditions=before)
        for status, reason in itertools.product(
            ("False", "Unknown"), (Reason.STOPPING, Reason.LOADING_TIMEOUT)
        ):
            one = a_model(conditions=(*before, (kind, status, reason)))
            yield from (one, with_messages(one, **{kind: said}))
        yield a_model(conditions=(*before, a_condition(kind, generation=1)), generation=2)
    for wanted in (Reason.START_FAILED, Reason.FIRST_START_FAILED, Reason.DELETING, Reason.IDLE):
        for ready in (Reason.IMAGE_PULL_FAILED, Reason.STOPPING, Reason.DRAINING, Reason.LOADING_TIMEOUT):
            stopped = all_true(("Wanted", "False", wanted), ("Ready", "False", ready))
            yield with_messages(a_model(conditions=stopped), Ready=said)
    yield a_model(conditions=all_true())


def of_states(quoted: str) -> Iterator[str]:
    """Yield the phase's message and Stalled of each."""
    for model in states(quoted):
        yield phase.explain(model.status.conditions, model.metadata.generation)
        write = status_decision.next_write(model, 0.0, 60.0)
        if isinstance(write, WriteStatus):
            status = write.status
            yield getattr(status, "message", "")
            stalled = getattr(status, "stalled", None)
            yield stalled.message if stalled is not None else ""


def rendered() -> list[str]:
    """Return every message."""
    return [*of_specs(), *(text for quoted in QUOTED for text in of_states(quoted))]


def test_every_message_of_the_watcher_is_whole() -> None:
    """Of refusals, remarks, phases, and what cannot continue."""
    assert {wrong for message in rendered() if message for wrong in glued(message)} == set()


def test_no_message_of_the_watcher_is_left_out() -> None:
    """Each text in its modules is in one that was rendered."""
    assert not_rendered(MODULES, rendered()) == []


@pytest.mark.parametrize("model", [model for model in specs() if accepted.accepted(model).status == "False"])
def test_every_refusal_says_what_to_change(model: Model) -> None:
    """In the same message."""
    assert remedy(accepted.accepted(model).message)


def remedy(message: str) -> bool:
    """Return whether a message has what to do."""
    return bool(_REMEDY.search(message))
