"""What is computed once for each text is kept for texts that Kubernetes allows as names: an annotation may have 256 KiB, a message of NATS 4 MB."""

import contextlib
import itertools
import tracemalloc
from collections.abc import Callable, Iterator

import msgspec
import pytest

from flexinfer.api.durations import seconds
from flexinfer.api.numbers import whole_number
from flexinfer.api.sharedgroup import object_name
from flexinfer.events.subjects import encode
from flexinfer.placer.requirements import requirements_of
from tests.builders import a_model

_LONG, _TEXTS = 100_000, 40


def _required(text: str) -> object:
    """Let the placer compute what a Model requires that has this text in its spec."""
    model = a_model()
    spec = msgspec.structs.replace(model.spec, config={"template": text})
    return requirements_of(msgspec.structs.replace(model, spec=spec))


@pytest.mark.parametrize("function", [whole_number, seconds, object_name, encode, _required])
def test_no_long_text_is_kept(function: Callable[[str], object]) -> None:
    """Each edit of an annotation would be kept, 4,096 times: 1 GB, and the end of a service that all share."""
    tracemalloc.start()
    try:
        for text in _texts():
            with contextlib.suppress(ValueError):
                function(text)
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert kept < 5 * _LONG


def _texts() -> Iterator[str]:
    """Yield long texts, each another."""
    return (f"{number}-" + "x" * _LONG for number in itertools.islice(itertools.count(), _TEXTS))
