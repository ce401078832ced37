"""`flexinfer why`: each condition of a Model in order, in its owner's words, and the one thing that would help next.

Also `kubectl flexinfer why`. It reads the Model and nothing else: what it says is what the services wrote.
"""

import argparse
import asyncio
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType

from flexinfer.cli.errors import CommandError
from flexinfer.cli.target import instance_of, state_argument
from flexinfer.contracts import conditions, keys
from flexinfer.contracts.conditions import Condition, one_line
from flexinfer.contracts.model import Model
from flexinfer.local.instance import InstanceError
from flexinfer.runtime import cluster
from flexinfer.runtime.api import MODELS, NotFoundError

_MARKS: Mapping[str, str] = MappingProxyType({conditions.TRUE: "✓", conditions.FALSE: "✗"})
_REMEDIES: Mapping[str, str] = MappingProxyType(
    {
        keys.R_RESERVED_NAMESPACE: "create the Model in another namespace, such as `default`",
        keys.R_CLAIM_NOT_FOUND: "create the claim, or name another one in spec.source: kubectl get pvc -n {namespace}",
        keys.R_CLAIM_PENDING: "see why the claim is not bound: kubectl describe pvc -n {namespace}",
        keys.R_SOURCE_NOT_FOUND: "put the file there, or correct the path in spec.source",
        keys.R_NAME_TAKEN: "delete or rename the object that the message names, or rename the Model",
        keys.R_NO_NODE_FITS: "free or add what the message says is missing, or ask for less in spec",
        keys.R_IMAGE_PULL_FAILED: "do what the message says, then wait: it is tried again by itself",
        keys.R_BACK_OFF: "read why the engine dies: kubectl logs -n {namespace} {name}-0 --previous",
        keys.R_RESTARTING: "read why the engine died: kubectl logs -n {namespace} {name}-0 --previous",
        keys.R_LOADING_TIMEOUT: "read how far it came: kubectl logs -n {namespace} {name}-0; then change the spec or ask again",
        keys.R_FIRST_START_FAILED: "correct what the message says; a request or a change of the spec tries again",
        keys.R_BLOCKED: "free the device: the message names Pod, process and node",
        keys.R_NODE_UNREACHABLE: "bring the node back: kubectl get nodes",
        keys.R_IDLE: "nothing: it sleeps, and a request wakes it",
        keys.R_QUEUED: "wait for its turn, or raise spec.gpu.priority",
    }
)


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
    async with cluster.connected(config) as api:
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
    found = [model.condition(kind) for kind in keys.CONDITIONS]
    width = max(len(condition.reason) for condition in found if condition) if any(found) else 0
    for kind, condition in zip(keys.CONDITIONS, found, strict=True):
        yield f"  {_line(kind, condition, model, width)}"
    yield f"Next: {remedy(model)}"


def _line(kind: str, condition: Condition | None, model: Model, width: int) -> str:
    if condition is None:
        return f"? {kind:<9} not written yet by the {keys.OWNERS[kind]}"
    mark = _MARKS.get(condition.status, "?")
    old = "" if condition.observed_generation == model.metadata.generation else " (of an older spec)"
    return f"{mark} {kind:<9} {condition.reason:<{width}}  {one_line(condition.message)}{old}".rstrip()


def remedy(model: Model) -> str:
    """Return the one thing that would help next."""
    ready = model.condition(keys.READY)
    if ready is not None and ready.true:
        return f"nothing: it answers at {model.status.endpoint}"
    blocking = _blocking(model)
    if blocking is None:
        return "nothing: it is about to start"
    if isinstance(blocking, str):
        owner = keys.OWNERS[blocking]
        return f"wait for the {owner}, which writes {blocking}; `flexinfer services` tells whether it is well"
    names = {"namespace": model.metadata.namespace, "name": model.metadata.name}
    known = _REMEDIES.get(blocking.reason)
    return known.format(**names) if known else f"{blocking.type}: {_meaning(blocking)}"


def _blocking(model: Model) -> Condition | str | None:
    """Return the first condition that keeps the Model from answering, or the name of one that is missing."""
    final = [c for c in model.status.conditions if not c.true and c.reason in keys.FINAL_REASONS]
    if final:
        return final[0]
    for kind in keys.CONDITIONS:
        condition = model.condition(kind)
        if condition is None:
            return kind
        if not condition.true:
            return condition
    return None


def _meaning(condition: Condition) -> str:
    meaning = keys.REASONS.get(condition.reason, condition.message)
    return f"{meaning[0].lower()}{meaning[1:]}" if meaning else condition.reason
