"""`flexinfer why`: each condition of a Model in order, in its owner's words, and what to do next.

Also `kubectl flexinfer why`. It reads the Model, and the SharedGroup of one that shares its devices: every answer is
what the components wrote.
"""

import argparse
import asyncio
from collections.abc import Iterator

from flexinfer.api import conditions, reasons
from flexinfer.api.conditions import Condition, one_line
from flexinfer.api.model import Model
from flexinfer.api.reasons import Reason
from flexinfer.api.services import OWNERS
from flexinfer.api.sharedgroup import SharedGroup, object_name
from flexinfer.cli import reach
from flexinfer.cli.errors import CommandError
from flexinfer.cli.sentences import bar, held, summary
from flexinfer.cli.target import target_arguments
from flexinfer.runtime.kubernetes.api import MODELS, SHARED_GROUPS, NotFoundError

TRUE_MARK, FALSE_MARK, REST_MARK, UNKNOWN_MARK = "✓", "✗", "-", "?"
_AT_REST = reasons.AT_REST | {Reason.IDLE, Reason.NOT_WANTED, Reason.RELEASED, Reason.DRAINING}
"""A False condition with one of these is no fault: the Model is scaled to zero, or about to be."""


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the Model's name, its namespace, and where the API server is."""
    parser.add_argument("model", metavar="MODEL")
    parser.add_argument("-n", "--namespace", default="default")
    target_arguments(parser)


def run(options: argparse.Namespace) -> int:
    """Print the answer. Raises CommandError if there is no such Model, ApiError."""
    model, group = asyncio.run(_read(options))
    print("\n".join(answer(model, group)))
    return 0


async def _read(options: argparse.Namespace) -> tuple[Model, SharedGroup | None]:
    """Return the Model, and its SharedGroup if there is one. Raises CommandError if there is no such Model, ApiError."""
    namespace, name = options.namespace, options.model
    async with reach.api(options) as api:
        try:
            model = await api.get(MODELS, namespace, name)
        except NotFoundError as error:
            raise CommandError(
                f"Model {name!r} not found in namespace {namespace}; `kubectl get mdl -A` lists all Models"
            ) from error
        if not model.spec.group:
            return model, None
        try:
            return model, await api.get(SHARED_GROUPS, namespace, object_name(model.spec.group))
        except NotFoundError:
            return model, None


def answer(model: Model, group: SharedGroup | None = None) -> Iterator[str]:
    """Yield the answer, line by line."""
    yield f"{model.key} is {one_line(summary(model))}"
    current = [model.condition(kind) for kind in conditions.CONDITIONS]
    width = max((len(condition.reason) for condition in current if condition), default=0)
    for kind, condition in zip(conditions.CONDITIONS, current, strict=True):
        yield f"  {_line(kind, condition, model, width)}"
        if kind == conditions.CACHED and condition is not None and not condition.true:
            yield from _progress(model)
    if group is not None:
        yield f"  Group {group.name}: {one_line(held(group))}"
    yield f"Next: {next_step(model)}"


def _progress(model: Model) -> Iterator[str]:
    """Yield how far a download is, if one runs."""
    cache = model.status.cache
    if cache is not None and cache.total_bytes and cache.bytes < cache.total_bytes:
        rate = f", {cache.bytes_per_second / 1e6:,.1f} MB/s" if cache.bytes_per_second else ""
        yield f"    {bar(cache.bytes, cache.total_bytes)} {one_line(cache.progress)}{rate}"


def _line(kind: str, condition: Condition | None, model: Model, width: int) -> str:
    if condition is None:
        return f"{UNKNOWN_MARK} {kind:<9} not written yet by the {OWNERS[kind]}"
    old = "" if condition.observed_generation == model.metadata.generation else " (of an older spec)"
    return f"{_mark(condition)} {kind:<9} {condition.reason:<{width}}  {one_line(condition.message)}{old}".rstrip()


def _mark(condition: Condition) -> str:
    if condition.true:
        return TRUE_MARK
    if condition.status != conditions.FALSE:
        return UNKNOWN_MARK
    return REST_MARK if condition.reason in _AT_REST else FALSE_MARK


def next_step(model: Model) -> str:
    """Return what to do next."""
    ready, blocking = model.condition(conditions.READY), _blocking(model)
    if ready is not None and ready.true:
        served = f"the engine serves requests at {model.status.endpoint}"
        refused = blocking if isinstance(blocking, Condition) and blocking.reason in reasons.FINAL else None
        if refused is None:
            return f"nothing: {served}"
        return f"{_remedy(model, refused)}; until then {served} with the spec before"
    if blocking is None:
        return "nothing: the engine is about to start"
    if isinstance(blocking, str):
        return f"wait for the {OWNERS[blocking]}, which writes {blocking}; `flexinfer services` shows whether it runs"
    return _remedy(model, blocking)


def _remedy(model: Model, blocking: Condition) -> str:
    meta = model.metadata
    remedy = reasons.remedy(blocking.reason, namespace=meta.namespace, name=meta.name)
    return remedy or f"wait: no action is needed ({blocking.type} is {blocking.status}: {blocking.reason})"


def _blocking(model: Model) -> Condition | str | None:
    """Return the first condition that keeps the Model from serving, or the type of one that is missing."""
    final = [c for c in model.status.conditions if not c.true and c.reason in reasons.FINAL]
    if final:
        return final[0]
    for kind in conditions.CONDITIONS:
        condition = model.condition(kind)
        if condition is None:
            return kind
        if not condition.true:
            return condition
    return None
