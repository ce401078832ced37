"""The bus: who may publish and hear what, and the nats-server configuration of one machine.

`permissions` is pure and knows nothing of this machine: a cluster's configuration is made from it too. A consumer may be
created on a filtered subject only, because a create without a filter carries none in its subject and could not be checked.
Whoever may create a consumer may point its deliveries anywhere in the account; messages are observations and never commands,
so a forged one costs a wasted read.
"""

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import msgspec

from flexinfer.api.services import CHANGED_RECEIVERS
from flexinfer.events.subjects import (
    HISTORY_STREAM,
    LIVE_STREAM,
    ROOT,
    STATE_STREAM,
    STREAMS,
)

SERVICES = ("watcher", "agent", "placer", "prefetcher", "launcher", "reaper", "arbiter", "proxy")
ALL_SERVICES = "services"
"""The user of `flexinfer run --all`: what every service may, in one."""
BOOTSTRAP = "bootstrap"
"""The only identity that makes streams; the watcher holds it on a second connection."""
TAP = "tap"
"""For people: reads everything, says nothing."""
USERS = (*SERVICES, ALL_SERVICES, BOOTSTRAP, TAP)

_PUBLISHES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "watcher": STREAMS[STATE_STREAM],
        "agent": (f"{ROOT}.gpu.>",),
        "launcher": (f"{ROOT}.ready.>",),
        "proxy": (f"{ROOT}.activity.>", f"{ROOT}.wake.>"),
    }
)
_HEARS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {"reaper": (f"{ROOT}.wake.>",), "proxy": (f"{ROOT}.ready.>",)}
)
_LIVE: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "placer": ("gpu",),
        "launcher": ("activity",),
        "reaper": ("activity",),
        "arbiter": ("gpu", "activity"),
    }
)
_WITHOUT_STATE = frozenset({"agent"})
_WITHOUT_STATUS = frozenset({"agent", "proxy"})
_MAX_PAYLOAD = 4 << 20
_MAX_FILE, _MAX_MEMORY = 2 << 30, 1 << 27


class Permissions(msgspec.Struct, frozen=True):
    """What a user may publish to and subscribe to; everything else is refused."""

    publish: tuple[str, ...]
    subscribe: tuple[str, ...]


def permissions(user: str) -> Permissions:
    """Return what one user may; KeyError for a name that is none."""
    if user == BOOTSTRAP:
        may = tuple(f"$JS.API.STREAM.{verb}.{stream}" for stream in STREAMS for verb in ("INFO", "CREATE"))
        return Permissions(may, _inbox(user))
    if user == TAP:
        readable = {STATE_STREAM: f"{ROOT}.>", LIVE_STREAM: f"{ROOT}.>", HISTORY_STREAM: f"{ROOT}.history.>"}
        return Permissions(tuple(_consumer(*item) for item in readable.items()), (f"{ROOT}.>", *_inbox(user)))
    if user == ALL_SERVICES:
        each = [_service(name) for name in SERVICES]
        heard = {subject for one in each for subject in one.subscribe if subject.startswith(f"{ROOT}.")}
        return Permissions(
            tuple(sorted({subject for one in each for subject in one.publish})),
            (*sorted(heard), *_inbox(user)),
        )
    if user not in SERVICES:
        raise KeyError(user)
    return _service(user)


def _service(name: str) -> Permissions:
    publish = [*_PUBLISHES.get(name, ()), f"{ROOT}.history.>", f"{ROOT}.dead.>"]
    if name not in _WITHOUT_STATUS:
        publish.append(f"{ROOT}.changed.{name}.>")
    if name not in _WITHOUT_STATE:
        publish.append(_consumer(STATE_STREAM, f"{ROOT}.>"))
    publish += [_consumer(LIVE_STREAM, f"{ROOT}.{prefix}.>") for prefix in _LIVE.get(name, ())]
    heard = tuple(f"{ROOT}.changed.{owner}.>" for owner in CHANGED_RECEIVERS.get(name, ()))
    return Permissions(tuple(publish), (*_HEARS.get(name, ()), *heard, *_inbox(name)))


def _consumer(stream: str, pattern: str) -> str:
    return f"$JS.API.CONSUMER.CREATE.{stream}.*.{pattern}"


def _inbox(user: str) -> tuple[str, ...]:
    """Return the user's own inbox prefix: what keeps one service from reading another's replies."""
    return (f"_INBOX_{user}.>",)


def configuration(*, host: str, port: int, store: Path, passwords: Mapping[str, str]) -> bytes:
    """Return nats-server's configuration: loopback, a file store that syncs every write, one user a service."""
    users: list[dict[str, Any]] = [
        {
            "user": user,
            "password": password,
            "permissions": {
                "publish": {"allow": list(permissions(user).publish)},
                "subscribe": {"allow": list(permissions(user).subscribe)},
            },
        }
        for user, password in passwords.items()
    ]
    config: dict[str, Any] = {
        "server_name": "flexinfer",
        "host": host,
        "port": port,
        "max_payload": _MAX_PAYLOAD,
        "jetstream": {
            "store_dir": str(store),
            "sync_interval": "always",
            "max_file_store": _MAX_FILE,
            "max_memory_store": _MAX_MEMORY,
        },
        "authorization": {"users": users},
    }
    return msgspec.json.format(msgspec.json.encode(config))
