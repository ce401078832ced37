"""The prompt cache of an engine outlives it: its slots are saved when it is drained, and restored before the next one is Ready.

The engine itself writes and reads the files, in a folder of the Model's claim (`manifests`); the launcher names them. A name holds what a
cache is valid for: the Pod's template (image, arguments, so weights and context), the engine's own build and the revision of the weights.
With any other of these there is no file of that name. What fails or is late costs the cache alone: nothing here raises.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import TypeVar

from flexinfer.runtime import without_authorities as _first  # noqa: F401 -- before all that imports aiohttp

# isort: split
import aiohttp
import msgspec

from flexinfer import backends
from flexinfer.api.address import host_port
from flexinfer.api.foreign_json import ForeignJsonError, read_json
from flexinfer.api.headers import Headers
from flexinfer.api.model import Model
from flexinfer.api.numbers import counted
from flexinfer.backends import Backend
from flexinfer.events.workload import PodFacts
from flexinfer.launcher.digest import digest
from flexinfer.launcher.engine_client import Answer, engine_session, request
from flexinfer.sources.fetched import has_no_claim

log = logging.getLogger(__name__)
SAVE_SECONDS = 5.0
"""The most that saving may add to a stop: a tenth of a second for 500 MB on a local disk, and a share of the Pod's grace period of 30 s."""
RESTORE_SECONDS = 5.0
"""The most that restoring may add to a start."""
_MB = 2**20
T = TypeVar("T")


class Slot(msgspec.Struct, frozen=True):
    """One slot, as `/slots` of llama-server has it; `id_task` grows with each request, -1: it has had none."""

    id: int
    is_processing: bool = False
    id_task: int = -1
    n_prompt_tokens: int = 0


class _Props(msgspec.Struct, frozen=True):
    build_info: str = ""


class _Saved(msgspec.Struct, frozen=True):
    n_saved: int = 0
    n_written: int = 0


class _Restored(msgspec.Struct, frozen=True):
    n_restored: int = 0


def room(model: Model) -> int:
    """Return how many bytes of prompt caches a Model keeps; 0: none, as without a claim, where they would end with the Pod."""
    backend = backends.find(model.spec.backend)
    if backend is None or has_no_claim(model):
        return 0
    return backend.keeps_mb(model.spec) * _MB


async def save(model: Model, pod: PodFacts) -> str:
    """Save the slots of an engine that is drained, the latest first, within the room; returns what was saved, empty if nothing was."""
    return await _within(SAVE_SECONDS, model, pod, _save)


async def restore(model: Model, pod: PodFacts) -> None:
    """Restore the slots of an engine that is not Ready yet."""
    if summary := await _within(RESTORE_SECONDS, model, pod, _restore):
        log.info("%s: %s", model.key, summary)


def name_of(model: Model, pod: PodFacts, build: str) -> str:
    """Return how the names of a Model's caches begin: another one for whatever makes a cache void."""
    cache = model.status.cache
    weights = (cache.revision, cache.bytes) if cache is not None else ()
    return digest([model.uid, pod.template, build, *weights])


def order(slots: list[Slot]) -> list[Slot]:
    """Return the slots that are worth saving, the one used last first."""
    return sorted(
        (s for s in slots if s.id_task >= 0 and not s.is_processing), key=lambda s: (-s.id_task, s.id)
    )


def expected_bytes(slot: Slot, headers: Headers | None) -> int:
    """Return how large the cache of a slot will be, as far as the headers of the weights tell; 0: they do not."""
    if headers is None:
        return 0
    return (
        slot.n_prompt_tokens
        * headers.layers
        * headers.kv_heads
        * (headers.key_length + headers.value_length)
        * 2
    )


class _Engine:
    """An engine, while its slots are asked for."""

    def __init__(self, session: aiohttp.ClientSession, model: Model, pod: PodFacts, root: str) -> None:
        self.model, self._session, self._pod, self._root = model, session, pod, root

    async def slots(self) -> list[Slot]:
        """Return its slots; none if it does not tell."""
        return _read(await request(self._session, f"{self._root}/slots"), list[Slot]) or []

    async def name(self) -> str:
        """Return how the names of its caches begin; empty if it does not tell its build."""
        props = _read(await request(self._session, f"{self._root}/props"), _Props)
        return name_of(self.model, self._pod, props.build_info) if props is not None else ""

    async def act(self, slot: int, action: str, name: str) -> Answer:
        """Save or restore a slot."""
        body: Mapping[str, str] = {"filename": f"{name}-{slot}.bin"}
        url = f"{self._root}/slots/{slot}?action={action}"
        return await request(self._session, url, msgspec.json.encode(body))


async def _within(
    seconds: float, model: Model, pod: PodFacts, work: Callable[[_Engine], Awaitable[str]]
) -> str:
    backend = backends.find(model.spec.backend)
    if not room(model) or backend is None or not pod.ip:
        return ""
    try:
        async with asyncio.timeout(seconds), engine_session(seconds) as session:
            return await work(_Engine(session, model, pod, _root(backend, pod)))
    except (TimeoutError, aiohttp.ClientError, OSError) as error:
        log.warning("%s: prompt cache: %s", model.key, str(error) or f"no answer within {seconds:g}s")
    except Exception:  # noqa: BLE001 -- what is not HTTP may fail anywhere in the parser; that is the engine's fault
        log.warning("%s: prompt cache: what the engine answers is not HTTP", model.key)
    return ""


async def _save(engine: _Engine) -> str:
    name, slots = await engine.name(), order(await engine.slots())
    remaining, tokens, number = room(engine.model), 0, 0
    headers = engine.model.status.cache.headers if engine.model.status.cache is not None else None
    for slot in slots if name else ():
        if remaining <= 0 or expected_bytes(slot, headers) > remaining:
            continue
        reply = _read(await engine.act(slot.id, "save", name), _Saved)
        if reply is not None and reply.n_saved:
            remaining, tokens, number = remaining - reply.n_written, tokens + reply.n_saved, number + 1
    return saved_message(number, tokens) if number else ""


def saved_message(number: int, tokens: int) -> str:
    """Return what a stop says of the prompt caches that it saved."""
    return f"{counted(number, 'prompt cache')} of {counted(tokens, 'token')} saved"


async def _restore(engine: _Engine) -> str:
    name, slots, tokens = await engine.name(), await engine.slots(), 0
    for slot in slots if name else ():
        reply = _read(await engine.act(slot.id, "restore", name), _Restored)
        tokens += reply.n_restored if reply is not None else 0
    return f"prompt caches of {counted(tokens, 'token')} restored" if tokens else ""


def _root(backend: Backend, pod: PodFacts) -> str:
    return f"http://{host_port(pod.ip, backend.port)}"


def _read(answer: Answer, kind: type[T]) -> T | None:
    """Return what an engine answered; None if it is an error, or of another form."""
    if not answer.good:
        return None
    try:
        return read_json(answer.body, kind)
    except ForeignJsonError:
        return None
