"""What the API server says of Models before they are applied: a server-side dry run of each, and the PVC that it names.

Nothing is changed. Without an API server, or without the right to write Models, that is said and the rest of a plan is made.
"""

import argparse
from collections.abc import Mapping, Sequence

import msgspec

from flexinfer import sources
from flexinfer.api.conditions import one_line
from flexinfer.api.model import Model
from flexinfer.cli import reach
from flexinfer.local.instance import InstanceError
from flexinfer.prefetcher import messages
from flexinfer.prefetcher.plan import Plan
from flexinfer.runtime.kubernetes.api import (
    CLAIMS,
    MODELS,
    AlreadyExistsError,
    ApiError,
    InvalidError,
    NotFoundError,
    get_or_none,
)
from flexinfer.runtime.kubernetes.client import KubernetesClient

_OF_THE_SERVER = ("managedFields", "resourceVersion", "uid", "creationTimestamp", "generation")


class Document(msgspec.Struct, frozen=True, kw_only=True):
    """A Model of a file: as it is written there, and as it is read."""

    body: Mapping[str, object]
    model: Model


class Answers(msgspec.Struct, frozen=True, kw_only=True):
    """What was answered: why a Model would be refused, or would not start, by its key; and why nothing more was asked, if so."""

    refusals: Mapping[str, str] = {}
    unasked: str = ""


async def answers(options: argparse.Namespace, documents: Sequence[Document]) -> Answers:
    """Ask of each Model; an API server that is not reached refuses none."""
    refusals: dict[str, str] = {}
    try:
        async with reach.api(options) as api:
            for document in documents:
                if refusal := await _refusal(api, document):
                    refusals[document.model.key] = refusal
    except (ApiError, InstanceError) as error:
        return Answers(refusals=refusals, unasked=one_line(str(error)))
    return Answers(refusals=refusals)


async def _refusal(api: KubernetesClient, document: Document) -> str:
    """Return why the API server would refuse a Model, or what it lacks there; empty if nothing. Raises ApiError."""
    namespace = document.model.metadata.namespace
    try:
        await _dry_run(api, namespace, document)
    except (InvalidError, NotFoundError) as error:
        return f"would be refused by the API server: {one_line(str(error))}"
    return await _missing_claim(api, document.model)


async def _dry_run(api: KubernetesClient, namespace: str, document: Document) -> None:
    """Let the API server check a Model as a new one, or in place of the one of its name. Raises ApiError."""
    try:
        await api.dry_run(MODELS, namespace, _sent(document))
    except AlreadyExistsError:
        existing = await api.get(MODELS, namespace, document.model.metadata.name)
        version = existing.metadata.resource_version
        await api.dry_run(MODELS, namespace, _sent(document, resourceVersion=version), replaces=True)


def _sent(document: Document, **metadata_of_the_server: str) -> Mapping[str, object]:
    """Return a document as it is sent: without a status, and without what the API server itself has written."""
    metadata = document.body.get("metadata")
    fields = metadata if isinstance(metadata, Mapping) else {}
    meta = {name: value for name, value in fields.items() if name not in _OF_THE_SERVER}
    body = {name: value for name, value in document.body.items() if name != "status"}
    namespace = document.model.metadata.namespace
    return body | {"metadata": meta | {"namespace": namespace, **metadata_of_the_server}}


async def _missing_claim(api: KubernetesClient, model: Model) -> str:
    """Return that the PVC of a Model does not exist, unless FlexInfer creates it; empty if it does. Raises ApiError."""
    location = sources.locate(model)
    if location is None or not location.claim or location.owned:
        return ""
    if await get_or_none(api, CLAIMS, model.metadata.namespace, location.claim) is not None:
        return ""
    return f"would not start: {messages.pvc_not_found(model, Plan(location=location))}"
