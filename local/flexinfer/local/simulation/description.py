"""Description: the file of `--simulate-gpus`: nodes with their cards, footprints of Models, and foreign processes. Pure.

```yaml
nodes:
- name: tower
  labels: {room: attic}
  gpus:
  - {profile: rx-7900-xtx, memoryMB: 24560, releaseDelay: 2s}
footprints: {coder: 20000}
foreign:
- {node: tower, gpu: 0, memoryMB: 15000, name: game}
```

Every problem is a DescriptionError that names its field and what to write instead.
"""

import hashlib
import re
from collections.abc import Iterator
from typing import Annotated

import msgspec

from flexinfer.api.durations import seconds
from flexinfer.api.labels import GPU_RESOURCES
from flexinfer.api.nearest import nearest
from flexinfer.local.simulation.profiles import PROFILES, Profile

SIMULATED_LABEL = "flexinfer.ai/simulated"
"""On the Nodes of a simulation, so that one which is no longer described can be deleted."""
DEFAULT_RELEASE_DELAY = "1s"
_NAME = re.compile(r"[a-z0-9]([-a-z0-9.]{0,61}[a-z0-9])?")
_LABEL_VALUE = re.compile(r"([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?")
_LABEL_KEY = re.compile(r"([a-z0-9][-a-z0-9.]{0,252}/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?")
_MOST_MEMORY_MB = 1 << 22
_FIELD = re.compile(r"(?P<problem>.*?)(?: - at `(?P<field>[^`]*)`)?", re.DOTALL)
Replicas = Annotated[int, msgspec.Meta(ge=1, le=64)]
Memory = Annotated[int, msgspec.Meta(ge=1, le=_MOST_MEMORY_MB)]


class DescriptionError(ValueError):
    """The file describes no nodes that can be simulated; the message names the field and the remedy."""


class Gpu(msgspec.Struct, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True):
    """A card: a profile, its memory in MiB (default: the profile's), and how late memory comes back after its process has ended."""

    profile: str
    memory_mb: Memory | None = msgspec.field(default=None, name="memoryMB")
    release_delay: str = DEFAULT_RELEASE_DELAY

    @property
    def card(self) -> Profile:
        """The profile of the card."""
        return PROFILES[self.profile]

    @property
    def total_mb(self) -> int:
        """Its memory in MiB."""
        return self.memory_mb or self.card.memory_mb


class Node(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A node and its cards; without any it runs Models on its CPU alone. `replicas` is how many Pods may have a card at once."""

    name: str
    labels: dict[str, str] = {}
    gpus: tuple[Gpu, ...] = ()
    replicas: Replicas = 8

    def uuid(self, index: int) -> str:
        """Return the uuid of a card: the same at every start, and different from that of any other card."""
        digest = hashlib.sha256(f"{self.name}/{index}".encode()).hexdigest()
        if self.gpus[index].card.vendor == "amd":
            return f"GPU-{digest[:16]}"
        return "GPU-" + "-".join((digest[:8], digest[8:12], digest[12:16], digest[16:20], digest[20:32]))

    def resources(self) -> dict[str, list[str]]:
        """Return the extended resources that a device plugin would offer: the uuids of the cards of each vendor."""
        resources: dict[str, list[str]] = {}
        for index, gpu in enumerate(self.gpus):
            resources.setdefault(GPU_RESOURCES[gpu.card.vendor], []).append(self.uuid(index))
        return resources


class Foreign(msgspec.Struct, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True):
    """A process that is none of ours: it holds memory, in MiB, of one card of a node, by its index."""

    node: str
    gpu: int = 0
    memory_mb: Memory = msgspec.field(name="memoryMB")
    name: str = "foreign"


class Description(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is simulated. A footprint is the memory of a whole Model in MiB, by `name` or `namespace/name`."""

    nodes: tuple[Node, ...]
    footprints: dict[str, Memory] = {}
    foreign: tuple[Foreign, ...] = ()

    def footprint(self, namespace: str, name: str) -> int | None:
        """Return the footprint of a Model in MiB; None if the file does not say."""
        return self.footprints.get(f"{namespace}/{name}") or self.footprints.get(name)

    def node(self, name: str) -> Node | None:
        """Return a node by name."""
        return next((node for node in self.nodes if node.name == name), None)


def description_of(content: object) -> Description:
    """Return the description that a decoded YAML document holds. Raises DescriptionError."""
    try:
        description = msgspec.convert(content, Description)
    except msgspec.ValidationError as error:
        form = _FIELD.fullmatch(str(error))
        field = ((form["field"] if form else None) or "").removeprefix("$").removeprefix(".")
        problem = (form["problem"] if form else str(error)).rstrip(".")
        raise DescriptionError(
            f"{field or 'the file'}: {problem}; see examples/simulated/homelab.yaml"
        ) from error
    problem = next(_problems(description), "")
    if problem:
        raise DescriptionError(problem)
    return description


def _problems(description: Description) -> Iterator[str]:
    if not description.nodes:
        yield "nodes: the list is empty; describe at least one node, such as {name: tower, gpus: []}"
    names = [node.name for node in description.nodes]
    for index, node in enumerate(description.nodes):
        field = f"nodes[{index}]"
        if names.index(node.name) < index:
            yield f"{field}.name: there are two nodes named {node.name!r}; give each a name of its own"
        yield from _node_problems(field, node)
    for index, foreign in enumerate(description.foreign):
        yield from _foreign_problems(f"foreign[{index}]", foreign, description)


def _node_problems(field: str, node: Node) -> Iterator[str]:
    if not _NAME.fullmatch(node.name):
        yield (
            f"{field}.name: {node.name[:40]!r} is not a node name; use lower case letters, digits, '-' and '.', "
            "at most 63 characters"
        )
    for key, value in node.labels.items():
        if not (_LABEL_KEY.fullmatch(key) and _LABEL_VALUE.fullmatch(value)):
            yield f"{field}.labels: {key[:40]}={value[:40]} is not a label of Kubernetes; use letters, digits, '-', '_' and '.'"
    for index, gpu in enumerate(node.gpus):
        yield from _gpu_problems(f"{field}.gpus[{index}]", gpu)


def _gpu_problems(field: str, gpu: Gpu) -> Iterator[str]:
    if gpu.profile not in PROFILES:
        yield f"{field}.profile: {gpu.profile[:40]!r} is not a known card; {_nearest(gpu.profile)}"
    try:
        seconds(gpu.release_delay)
    except ValueError as error:
        yield f"{field}.releaseDelay: {error}"


def _nearest(profile: str) -> str:
    near = nearest(profile.lower().replace(" ", "-"), PROFILES)
    hint = f"did you mean {near}? " if near else ""
    return f"{hint}Choose one of: {', '.join(PROFILES)}"


def _foreign_problems(field: str, foreign: Foreign, description: Description) -> Iterator[str]:
    node = description.node(foreign.node)
    if node is None:
        names = ", ".join(each.name for each in description.nodes)
        yield f"{field}.node: no node is named {foreign.node[:40]!r}; choose one of: {names}"
    elif not 0 <= foreign.gpu < len(node.gpus):
        number = len(node.gpus)
        cards = f"its cards are 0 to {number - 1}" if number else "it has no cards"
        yield f"{field}.gpu: node {node.name} has no card {foreign.gpu}; {cards}"
