"""`flexinfer why`: each condition of a Model in order, in its owner's words, and the one thing that would help next.

Also `kubectl flexinfer why`. It reads the Model and nothing else: what it says is what the services wrote.
"""

import argparse
import asyncio
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType

from flexinfer.api import conditions, reasons
from flexinfer.api.conditions import Condition, one_line
from flexinfer.api.model import Model
from flexinfer.api.services import OWNERS
from flexinfer.cli.errors import CommandError
from flexinfer.cli.target import instance_of, state_argument
from flexinfer.local.instance import InstanceError
from flexinfer.runtime.kubernetes import client
from flexinfer.runtime.kubernetes.api import MODELS, NotFoundError

_MARKS: Mapping[str, str] = MappingProxyType({conditions.TRUE: "✓", conditions.FALSE: "✗"})


def arguments(parser: argparse.ArgumentParser) -> None:
    """Take a Model's name, its namespace, and where the API server is."""
    parser.add_argument("model", metavar="MODEL")
    parser.add_argument("-n", "--namespace", default="default")
    parser.add_argument(
        "--kubeconfig", help="else --state's, else $KUBECONFIG, else the instance's, else ~/.kube/config"
    )
    state_argument(parser)


def run(given: argparse.Namespace) -> int:
    """Print the answer."""
    model = asyncio.run(_model(kubeconfig(given), given.namespace, given.model))
    print("\n".join(told(model)))
    return 0


def kubeconfig(given: argparse.Namespace) -> str:
    """Return the kubeconfig file to use."""
    if given.kubeconfig:
        return str(given.kubeconfig)
    if not given.state and os.environ.get("KUBECONFIG"):
        return os.environ["KUBECONFIG"]
    try:
        return str(instance_of(given).kubeconfig)
    except InstanceError:
        if given.state:
            raise
        return str(Path("~/.kube/config").expanduser())


async def _model(config: str, namespace: str, name: str) -> Model:
    async with client.connected(config) as api:
        try:
            return await api.get(MODELS, namespace, name)
        except NotFoundError as error:
            raise CommandError(
                f"there is no Model {name!r} in the namespace {namespace}: kubectl get mdl -A lists all"
            ) from error


def told(model: Model) -> Iterator[str]:
    """Yield the answer, line by line."""
    phase = model.status.phase or "new"
    yield f"{model.key} is {phase}" + (f": {one_line(model.status.message)}" if model.status.message else "")
    found = [model.condition(kind) for kind in conditions.CONDITIONS]
    width = max(len(condition.reason) for condition in found if condition) if any(found) else 0
    for kind, condition in zip(conditions.CONDITIONS, found, strict=True):
        yield f"  {_line(kind, condition, model, width)}"
    yield f"Next: {remedy(model)}"


def _line(kind: str, condition: Condition | None, model: Model, width: int) -> str:
    if condition is None:
        return f"? {kind:<9} not written yet by the {OWNERS[kind]}"
    mark = _MARKS.get(condition.status, "?")
    old = "" if condition.observed_generation == model.metadata.generation else " (of an older spec)"
    return f"{mark} {kind:<9} {condition.reason:<{width}}  {one_line(condition.message)}{old}".rstrip()


def remedy(model: Model) -> str:
    """Return the one thing that would help next."""
    ready = model.condition(conditions.READY)
    if ready is not None and ready.true:
        return f"nothing: it answers at {model.status.endpoint}"
    blocking = _blocking(model)
    if blocking is None:
        return "nothing: it is about to start"
    if isinstance(blocking, str):
        owner = OWNERS[blocking]
        return f"wait for the {owner}, which writes {blocking}; `flexinfer services` tells whether it is well"
    meta = model.metadata
    remedy = reasons.remedy(blocking.reason, namespace=meta.namespace, name=meta.name)
    return remedy or f"wait: {blocking.type}={blocking.status} ({blocking.reason})"


def _blocking(model: Model) -> Condition | str | None:
    """Return the first condition that keeps the Model from answering, or the name of one that is missing."""
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
