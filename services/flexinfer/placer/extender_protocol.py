"""The kube-scheduler extender protocol, v1: what a request says, and how a response is written. Pure.

https://github.com/kubernetes/kubernetes/blob/master/staging/src/k8s.io/kube-scheduler/extender/v1/types.go. Its structs have no JSON
tags, so names are written as in Go and read in any case. Nodes come as objects or, with `nodeCacheCapable`, by name; the response has the
form of the request. What an object holds beside its name is passed on as it came.
"""

from collections.abc import Mapping
from typing import TypeVar

import msgspec

from flexinfer.api.base import Resource
from flexinfer.api.foreign_json import ForeignJsonError, read_json
from flexinfer.api.kube import Container
from flexinfer.api.metadata import Metadata

LOWEST_SCORE, HIGHEST_SCORE = 0, 10
T = TypeVar("T")


class ProtocolError(ValueError):
    """A request that is none of the protocol; the message says what is wrong with it."""


class PodToSchedule(Resource, frozen=True, kw_only=True):
    """The Pod of a request, as far as it is looked at."""

    class Spec(Resource, frozen=True, kw_only=True):
        """Its containers."""

        containers: tuple[Container, ...] = ()
        init_containers: tuple[Container, ...] = ()

    metadata: Metadata
    spec: Spec = Spec()


class Arguments(msgspec.Struct, frozen=True, kw_only=True):
    """A request: a Pod, the names of the nodes that it may be scheduled to, and their objects (None: named alone)."""

    pod: PodToSchedule
    names: tuple[str, ...]
    objects: Mapping[str, msgspec.Raw] | None = None


class _NodeList(msgspec.Struct, frozen=True):
    items: tuple[msgspec.Raw, ...] = ()


class _Named(msgspec.Struct, frozen=True):
    metadata: Metadata


class _FilterResult(msgspec.Struct, frozen=True, kw_only=True, rename="pascal"):
    """ExtenderFilterResult. Who is refused is refused by what no preemption changes: the scheduler does not see device memory."""

    nodes: _NodeList | None = None
    node_names: tuple[str, ...] | None = None
    failed_nodes: Mapping[str, str] = {}
    failed_and_unresolvable_nodes: Mapping[str, str] = {}
    error: str = ""


class _HostPriority(msgspec.Struct, frozen=True, rename="pascal"):
    host: str
    score: int


class _Failure(msgspec.Struct, frozen=True, rename="pascal"):
    error: str


def arguments(body: bytes) -> Arguments:
    """Return the arguments of a request. Raises ProtocolError."""
    fields = {
        name.lower(): raw
        for name, raw in _decoded(body, dict[str, msgspec.Raw]).items()
        if bytes(raw) != b"null"
    }
    if "pod" not in fields:
        raise ProtocolError("the request has no Pod")
    pod = _decoded(fields["pod"], PodToSchedule)
    if "nodes" in fields:
        items = _decoded(fields["nodes"], _NodeList).items
        objects = {_decoded(item, _Named).metadata.name: item for item in items}
        return Arguments(pod=pod, names=tuple(objects), objects=objects)
    if "nodenames" not in fields:
        raise ProtocolError("the request has neither Nodes nor NodeNames")
    return Arguments(pod=pod, names=_decoded(fields["nodenames"], tuple[str, ...]))


def filter_result(request: Arguments, refusals: Mapping[str, str]) -> bytes:
    """Return the response to /filter: the nodes of the request without those that are refused, each with its reason."""
    names = tuple(name for name in request.names if name not in refusals)
    if request.objects is None:
        result = _FilterResult(node_names=names, failed_and_unresolvable_nodes=refusals)
    else:
        nodes = _NodeList(tuple(request.objects[name] for name in names))
        result = _FilterResult(nodes=nodes, failed_and_unresolvable_nodes=refusals)
    return msgspec.json.encode(result)


def filter_error(message: str) -> bytes:
    """Return the response to /filter where no node can be judged: the scheduler shows the message and tries again."""
    return msgspec.json.encode(_FilterResult(error=message))


def prioritize_result(scores: Mapping[str, int]) -> bytes:
    """Return the response to /prioritize: a score of 0 to 10 for each node."""
    return msgspec.json.encode(
        [
            _HostPriority(host=name, score=max(LOWEST_SCORE, min(HIGHEST_SCORE, score)))
            for name, score in scores.items()
        ]
    )


def failure(message: str) -> bytes:
    """Return the response to a request of which the protocol has no form for an error."""
    return msgspec.json.encode(_Failure(error=message))


def _decoded(raw: bytes | msgspec.Raw, kind: type[T]) -> T:
    try:
        return read_json(raw, kind)
    except ForeignJsonError as error:
        raise ProtocolError(f"the request cannot be read: {error}") from error
