"""Permissions of the NATS users: which subjects each may publish and subscribe to. Pure.

Derived from the table of components (`api.services`), so that a component has the permissions for what it reads, hears and publishes and no
other. A cluster's Secrets and server configuration are made from this, and so is the configuration of one machine.

A consumer may only be created with one filter: a create without a filter carries none in its subject, so the server could not check it.
A user that may create a consumer may point its deliveries anywhere in the account. Messages are observations, never commands, so a
forged one costs a read.
"""

import msgspec

from flexinfer.api.services import SERVICES, Component
from flexinfer.events.subjects import HISTORY_STREAM, LIVE_STREAM, ROOT, STATE_STREAM, STREAMS

CONTROLLERS = "controllers"
"""The user of `flexinfer run --controllers`: the permissions of every component but the proxy, in one."""
ALL = "all"
"""The user of `flexinfer run --all`: the permissions of every component in one."""
BOOTSTRAP = "bootstrap"
"""The only user that creates streams; the watcher holds it on a second connection.

It may also make the state stream again: after a failed write nats-server stores nothing into it until then.
"""
TAP = "tap"
"""For people: reads everything, publishes nothing."""
GROUPS = {CONTROLLERS: tuple(name for name in SERVICES if name != "proxy"), ALL: tuple(SERVICES)}
CLUSTER_USERS = (*SERVICES, BOOTSTRAP, TAP)
"""In a cluster every component is a process with a user of its own."""
USERS = (*CLUSTER_USERS, *GROUPS)
_FOR_ALL = (f"{ROOT}.history.>", f"{ROOT}.dead.>")


class Permissions(msgspec.Struct, frozen=True):
    """The subjects that a user may publish and subscribe to; the server refuses all others."""

    publish: tuple[str, ...]
    subscribe: tuple[str, ...]


def permissions(user: str) -> Permissions:
    """Return the permissions of one user. Raises KeyError if there is no such user."""
    if user == BOOTSTRAP:
        publish = tuple(
            f"$JS.API.STREAM.{verb}.{stream}" for stream in STREAMS for verb in ("INFO", "CREATE")
        )
        state = tuple(f"$JS.API.STREAM.{verb}.{STATE_STREAM}" for verb in ("UPDATE", "PURGE", "DELETE"))
        return Permissions((*publish, *state), _inbox(user))
    if user == TAP:
        readable = {STATE_STREAM: f"{ROOT}.>", LIVE_STREAM: f"{ROOT}.>", HISTORY_STREAM: f"{ROOT}.history.>"}
        return Permissions(tuple(_consumer(*item) for item in readable.items()), (f"{ROOT}.>", *_inbox(user)))
    if user in GROUPS:
        return _together(user, [_component(SERVICES[name]) for name in GROUPS[user]])
    return _component(SERVICES[user])


def _component(row: Component) -> Permissions:
    publish = [*(_published(kind) for kind in row.publishes), *_FOR_ALL]
    if row.condition:
        publish.append(f"{ROOT}.changed.{row.name}.>")
    if row.state:
        publish.append(_consumer(STATE_STREAM, f"{ROOT}.>"))
    publish += [_consumer(LIVE_STREAM, f"{ROOT}.{prefix}.>") for prefix in row.live]
    hints = [f"{ROOT}.{hint}.>" for hint in row.hints]
    changed_subjects = [f"{ROOT}.changed.{owner}.>" for owner in row.hears]
    return Permissions(tuple(publish), (*hints, *changed_subjects, *_inbox(row.name)))


def _published(kind: str) -> str:
    """Return the subjects of a kind of event; the watermark has one subject."""
    return f"{ROOT}.{kind}" if kind == "watermark" else f"{ROOT}.{kind}.>"


def _together(user: str, members: list[Permissions]) -> Permissions:
    publish = {subject for member in members for subject in member.publish}
    subscribe = {s for member in members for s in member.subscribe if s.startswith(f"{ROOT}.")}
    return Permissions(tuple(sorted(publish)), (*sorted(subscribe), *_inbox(user)))


def _consumer(stream: str, pattern: str) -> str:
    return f"$JS.API.CONSUMER.CREATE.{stream}.*.{pattern}"


def _inbox(user: str) -> tuple[str, ...]:
    """Return the user's own inbox prefix: no user can read the replies of another."""
    return (f"_INBOX_{user}.>",)
