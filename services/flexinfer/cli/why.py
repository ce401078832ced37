"""`flexinfer why`: each condition of a Model in order, in its owner's words, since when, and what to do next.

Also `kubectl flexinfer why`. It reads the Model and, of one that shares its devices, the SharedGroup and the Models that hold them:
every answer is what the components wrote.
"""

import argparse
import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TypeVar

from flexinfer.api.model import Model
from flexinfer.api.sharedgroup import SharedGroup, object_name
from flexinfer.cli import reach
from flexinfer.cli.explanation import answer, explanation
from flexinfer.cli.target import target_arguments
from flexinfer.cli.terminal import print_json
from flexinfer.runtime.kubernetes.api import MODELS, SHARED_GROUPS, Cluster, Kind, NotFoundError

T = TypeVar("T")


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the Model's name, its namespace, and where the API server is."""
    parser.add_argument("model", metavar="MODEL")
    parser.add_argument("-n", "--namespace", default="default")
    parser.add_argument("-o", "--output", choices=("text", "json"), default="text", help="output format")
    target_arguments(parser)


def run(options: argparse.Namespace) -> int:
    """Print the answer. Raises CommandError if there is no such Model, ApiError."""
    model, group, members = asyncio.run(_read(options))
    now = datetime.now(UTC).timestamp()
    if options.output == "json":
        print_json(explanation(model, group, members, now))
    else:
        print("\n".join(answer(model, group, members, now)))
    return 0


async def _read(options: argparse.Namespace) -> tuple[Model, SharedGroup | None, Sequence[Model]]:
    """Return the Model, its SharedGroup if there is one, and the Models that hold its devices.

    Raises CommandError if there is no such Model, ApiError.
    """
    namespace, name = options.namespace, options.model
    async with reach.api(options) as api:
        model = await reach.model_of(api, namespace, name)
        if not model.spec.group:
            return model, None, ()
        group = await _get(api, SHARED_GROUPS, namespace, object_name(model.spec.group))
        return model, group, await _members(api, group) if group is not None else ()


async def _members(api: Cluster, group: SharedGroup) -> Sequence[Model]:
    """Return the Models that hold the devices of a group. Raises ApiError."""
    members: list[Model] = []
    for name in (holder.model for holder in group.status.holders if holder.model):
        model = await _get(api, MODELS, group.metadata.namespace, name)
        if model is not None:
            members.append(model)
    return members


async def _get(api: Cluster, kind: Kind[T], namespace: str, name: str) -> T | None:
    """Return an object; None if there is none of that name. Raises ApiError."""
    try:
        return await api.get(kind, namespace, name)
    except NotFoundError:
        return None
