"""`flexinfer bench`: time to first token and tokens a second of a Model, measured as a client of the proxy sees them.

One request at a time: what one person gets of an engine with nothing else to do. A first request, which is not counted, starts the Model and
warms it up. The prompts differ from their first word on, so no engine answers from a prompt cache. The result is kept in `status.metrics`,
by a field manager of its own; no component reads it.
"""

import argparse
import asyncio
import statistics
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec

from flexinfer import backends
from flexinfer.api.conditions import one_line
from flexinfer.api.groupversion import API_VERSION, KIND
from flexinfer.api.model import MetricsStatus, Model
from flexinfer.api.numbers import counted
from flexinfer.api.services import BENCH
from flexinfer.cli import reach
from flexinfer.cli.chat import ChatClient, delta
from flexinfer.cli.errors import CommandError
from flexinfer.cli.target import target_arguments
from flexinfer.runtime.kubernetes.api import MODELS, Cluster, ConflictError, ForbiddenError, NotFoundError

PROMPT = "{number}. Write a long and detailed story about the number {number} and a lighthouse."
_TRIES = 5
_LONGEST_ENGINE = 256
_TEXTS = ("content", "reasoning_content", "reasoning")
"""Fields of a delta that hold what was generated, also where an engine tells thinking from answering."""


class Sample(msgspec.Struct, frozen=True):
    """One request: seconds to its first token and from there to its last, its tokens, and what the engine calls itself."""

    first: float
    rest: float
    tokens: int
    fingerprint: str = ""

    @property
    def per_second(self) -> float:
        """Tokens a second after the first one."""
        return (self.tokens - 1) / self.rest


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the Model, how much is measured, whether it is kept, and where API server and proxy are."""
    parser.add_argument("model", metavar="MODEL")
    parser.add_argument("-n", "--namespace", default="default")
    parser.add_argument(
        "--requests", type=int, default=5, metavar="N", help="requests that are measured (default: 5)"
    )
    parser.add_argument("--max-tokens", type=int, default=128, help="tokens of each answer (default: 128)")
    parser.add_argument("--dry-run", action="store_true", help="print the result and keep it nowhere")
    target_arguments(parser)


def run(options: argparse.Namespace) -> int:
    """Measure, print and keep. Raises CommandError, ApiError."""
    if options.requests < 1 or options.max_tokens < 2:  # noqa: PLR2004 -- a rate needs two tokens
        raise CommandError("--requests must be at least 1 and --max-tokens at least 2")
    model = asyncio.run(_model(options))
    with reach.proxy(options) as server:
        client = ChatClient(server.base_url, server.key)
        samples = asyncio.run(measured(client, model, options.requests, options.max_tokens, time.monotonic))
    metrics = metrics_of(model, samples, datetime.now(UTC))
    print("\n".join(lines(model, samples, metrics)))
    if not options.dry_run:
        asyncio.run(_keep(options, model, metrics))
    return 0


async def _model(options: argparse.Namespace) -> Model:
    async with reach.api(options) as api:
        return await reach.model_of(api, options.namespace, options.model)


async def measured(
    client: ChatClient, model: Model, requests: int, max_tokens: int, clock: Callable[[], float]
) -> list[Sample]:
    """Return the samples of some requests, one after the other. Raises CommandError."""
    await sample(client.chunks(body(model, 0, 1)), clock)
    samples = [
        await sample(client.chunks(body(model, number, max_tokens)), clock)
        for number in range(1, requests + 1)
    ]
    short = next((s for s in samples if s.tokens < 2 or s.rest <= 0), None)  # noqa: PLR2004
    if short is not None:
        raise CommandError(
            f"model {model.metadata.name} ended an answer after {short.tokens} tokens, too few to measure; "
            "use a model that is trained for conversations"
        )
    return samples


def body(model: Model, number: int, max_tokens: int) -> dict[str, Any]:
    """Return the body of one request; `number` makes its prompt differ from all others."""
    return {
        "model": model.key,
        "messages": [{"role": "user", "content": PROMPT.format(number=number)}],
        "max_tokens": max_tokens,
        "temperature": 0,
        "stream_options": {"include_usage": True},
    }


async def sample(chunks: AsyncIterator[object], clock: Callable[[], float]) -> Sample:
    """Time the events of one answer. Tokens are those that the engine counts, else the events with text."""
    began = clock()
    first = last = began
    events = tokens = 0
    fingerprint = ""
    async for chunk in chunks:
        now = clock()
        fingerprint = _version_of(chunk) or fingerprint
        tokens = _counted(chunk) or tokens
        if _has_text(chunk):
            first, last = (now, now) if not events else (first, now)
            events += 1
    return Sample(first - began, last - first, tokens or events, fingerprint)


def _has_text(chunk: object) -> bool:
    """Return whether an event brings some of the answer."""
    content = delta(chunk)
    return any(content.get(name) for name in _TEXTS)


def _text_of(chunk: object, name: str) -> str:
    value = chunk.get(name) if isinstance(chunk, Mapping) else None
    return value if isinstance(value, str) else ""


def _version_of(chunk: object) -> str:
    """Return the version of an engine as its answer states it; empty for llama.cpp's `b0-unknown`, of a build that knows none."""
    version = _text_of(chunk, "system_fingerprint")
    return "" if version.endswith("-unknown") else version


def _counted(chunk: object) -> int:
    """Return how many tokens an engine says that it generated; 0 where it says nothing."""
    usage = chunk.get("usage") if isinstance(chunk, Mapping) else None
    count = usage.get("completion_tokens") if isinstance(usage, Mapping) else None
    return count if isinstance(count, int) else 0


def metrics_of(model: Model, samples: Sequence[Sample], now: datetime) -> MetricsStatus:
    """Return the medians of samples as they are in status."""
    name = backends.canonical(model.spec.backend)
    return MetricsStatus(
        tokens_per_second=round(statistics.median(s.per_second for s in samples), 1),
        time_to_first_token_ms=round(1000 * statistics.median(s.first for s in samples)),
        measured_at=now.strftime("%Y-%m-%dT%H:%M:%SZ"),
        engine=one_line(f"{name} {samples[-1].fingerprint}".strip())[:_LONGEST_ENGINE],
    )


def lines(model: Model, samples: Sequence[Sample], metrics: MetricsStatus) -> list[str]:
    """Return the result for people: the medians, and how far the requests differed."""
    turns = " one after the other" if len(samples) > 1 else ""
    rates, firsts = [s.per_second for s in samples], [1000 * s.first for s in samples]
    return [
        f"{model.key}: {metrics.engine}, {counted(len(samples), 'request')}{turns}, {min(s.tokens for s in samples)} tokens or more each",
        f"  tokens a second      {metrics.tokens_per_second:>8.1f}  ({min(rates):.1f} to {max(rates):.1f})",
        f"  time to first token  {metrics.time_to_first_token_ms:>5} ms  ({min(firsts):.0f} to {max(firsts):.0f})",
    ]


async def _keep(options: argparse.Namespace, model: Model, metrics: MetricsStatus) -> None:
    async with reach.api(options) as api:
        await keep(api, model, metrics)


async def keep(api: Cluster, model: Model, metrics: MetricsStatus) -> None:
    """Write metrics into the status of the Model that was measured. Raises CommandError if that is not possible."""
    namespace, name = model.metadata.namespace, model.metadata.name
    for _ in range(_TRIES):
        try:
            current = await api.get(MODELS, namespace, name)
            if current.uid != model.uid:
                break
            await api.apply(MODELS, namespace, _patch(current, metrics), manager=BENCH, subresource="status")
        except ConflictError:  # another writer was between the two calls
            continue
        except NotFoundError:
            break
        except ForbiddenError as error:
            raise CommandError(
                f"the result is not kept: this user may not write models/status ({one_line(str(error))}); "
                "an administrator of the cluster can bind the ClusterRole flexinfer-bench to this user, and --dry-run keeps nothing"
            ) from error
        else:
            return
    else:
        raise CommandError(
            f"the result is not kept: Model {model.key} changed {_TRIES} times in a row; run the command again"
        )
    raise CommandError(f"the result is not kept: Model {model.key} was deleted while it was measured")


def _patch(model: Model, metrics: MetricsStatus) -> dict[str, Any]:
    """Return what is applied: the resourceVersion keeps it off a later Model of the same name."""
    meta = model.metadata
    return {
        "apiVersion": API_VERSION,
        "kind": KIND,
        "metadata": {
            "name": meta.name,
            "namespace": meta.namespace,
            "resourceVersion": meta.resource_version,
        },
        "status": {"metrics": msgspec.to_builtins(metrics)},
    }
