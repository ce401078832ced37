"""The page of `flexinfer snapshot`. Pure: the same objects give the same text, in whatever order they are listed.

No age and no time of day is in it, so that a difference between two pages is a difference of what is served. What people write into a
Model is shown as text, never as Markdown or HTML.
"""

from collections.abc import Iterable, Iterator, Sequence

import msgspec

from flexinfer import backends
from flexinfer.api import names
from flexinfer.api.conditions import one_line
from flexinfer.api.lease import GPULease
from flexinfer.api.model import Model
from flexinfer.api.sharedgroup import Holder, SharedGroup

NOTHING = "-"
_MARKS = {"&": "&amp;", "<": "&lt;", ">": "&gt;", "|": "\\|", "`": "\\`", "*": "\\*", "_": "\\_", "[": "\\["}
Row = tuple[str, ...]


class Snapshot(msgspec.Struct, frozen=True):
    """What the page is made of."""

    models: Sequence[Model] = ()
    groups: Sequence[SharedGroup] = ()
    leases: Sequence[GPULease] = ()


def page(snapshot: Snapshot) -> str:
    """Return the page, which ends with a newline."""
    models = sorted(snapshot.models, key=lambda model: model.key)
    groups = sorted(snapshot.groups, key=lambda group: group.key)
    leases = sorted(snapshot.leases, key=lambda lease: lease.key)
    return "\n".join(
        (
            "# FlexInfer",
            *_section("Models", _MODEL_HEAD, map(_model, models)),
            *_section("Shared groups", _GROUP_HEAD, map(_group, groups)),
            *_section("Holders", _HOLDER_HEAD, (row for group in groups for row in _holders(group))),
            *_section("Queue", _QUEUE_HEAD, _queue(models, leases)),
            *_section("LiteLLM aliases", _ALIAS_HEAD, sorted(row for model in models for row in _aliases(model))),
            *_section("Labels", _LABEL_HEAD, _labels(models)),
            *_section("Benchmarks", _BENCHMARK_HEAD, (row for model in models for row in _benchmarks(model))),
            "",
        )
    )  # fmt: skip


_MODEL_HEAD = ("Model", "Phase", "Reason", "Backend", "Source", "Node", "Devices", "Memory", "Group")
_GROUP_HEAD = ("Group", "Node", "Mode", "Devices", "Held", "Budget")
_HOLDER_HEAD = ("Group", "Holder", "Turn", "Step", "Memory")
_QUEUE_HEAD = ("Group", "Waiting", "Position")
_ALIAS_HEAD = ("Name", "Model")
_LABEL_HEAD = ("Label", "Models")
_BENCHMARK_HEAD = ("Model", "Tokens a second", "Time to first token", "Engine", "Measured")


def _section(title: str, head: Row, rows: Iterable[Row]) -> Iterator[str]:
    """Yield a heading and a table; a sentence in its place if there are no rows."""
    yield from ("", f"## {title}", "")
    body = [_line(tuple(map(_text, row))) for row in rows]
    if not body:
        yield "None."
        return
    yield from (_line(head), _line(("---",) * len(head)), *body)


def _line(cells: Row) -> str:
    return f"| {' | '.join(cells)} |"


def _text(value: str) -> str:
    """Return a text as one cell, which reads as what it is."""
    line = one_line(value).replace("\\", "\\\\")
    return "".join(_MARKS.get(mark, mark) for mark in line) or NOTHING


def _model(model: Model) -> Row:
    status, placement = model.status, model.status.placement
    return (
        model.key,
        status.phase,
        status.reason,
        backends.canonical(model.spec.backend),
        model.spec.source,
        placement.node if placement else "",
        ", ".join(sorted(placement.uuids)) if placement else "",
        _size(placement.footprint_mb if placement else None),
        model.spec.group,
    )


def _group(group: SharedGroup) -> Row:
    status = group.status
    return (
        f"{group.metadata.namespace}/{group.name}",
        status.node,
        group.spec.mode,
        ", ".join(sorted(device.uuid for device in status.devices)),
        _size(status.held_mb),
        _size(status.budget_mb),
    )


def _holders(group: SharedGroup) -> Iterator[Row]:
    def order(holder: Holder) -> tuple[int, str]:
        return holder.turn, holder.label

    for holder in sorted(group.status.holders, key=order):
        name = f"{group.metadata.namespace}/{group.name}"
        yield name, holder.label, str(holder.turn), holder.step, _size(holder.memory_mb)


def _queue(models: Iterable[Model], leases: Iterable[GPULease]) -> list[Row]:
    """Return who waits in which group, by position."""
    waiting = [
        (f"{model.metadata.namespace}/{member.group}", member.position, model.metadata.name)
        for model in models
        if (member := model.status.shared_group) is not None and member.position
    ]
    waiting += [
        (
            f"{lease.metadata.namespace}/{lease.spec.group}",
            lease.status.position,
            f"lease {lease.metadata.name}",
        )
        for lease in leases
        if lease.status.position
    ]
    return [(group, name, str(position)) for group, position, name in sorted(waiting)]


def _aliases(model: Model) -> Iterator[Row]:
    for alias in names.aliases(model):
        yield alias, model.key


def _labels(models: Iterable[Model]) -> list[Row]:
    """Return every label with the Models that have it."""
    by_label: dict[str, list[str]] = {}
    for model in models:
        for label in names.labels(model):
            by_label.setdefault(label, []).append(model.key)
    return [(label, ", ".join(keys)) for label, keys in sorted(by_label.items())]


def _benchmarks(model: Model) -> Iterator[Row]:
    metrics = model.status.metrics
    if metrics is not None:
        yield (
            model.key,
            f"{metrics.tokens_per_second:.1f}",
            f"{metrics.time_to_first_token_ms} ms",
            metrics.engine,
            metrics.measured_at,
        )


def _size(mib: int | None) -> str:
    return f"{mib} MiB" if mib else ""
