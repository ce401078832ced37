"""Demand: whether somebody asks for a Model, and since when nobody does. Pure.

Silence is not idleness. Idle time counts only while our own connection stands, a proxy is heard, and no proxy has vanished without a farewell in
the last minute; whatever interrupts that starts the count anew, since requests may have passed unseen.
"""

import msgspec

from flexinfer.api import conditions
from flexinfer.api.model import Model
from flexinfer.state.observed import HEARTBEAT_GAP, ObservedState

VANISHED_SECONDS = 60.0
"""For how long a proxy that fell silent without a farewell keeps Models awake."""


class Demand(msgspec.Struct, frozen=True):
    """What is known of the requests for one Model; times are monotonic seconds.

    `asked` is when the last request was, None if never seen. `idle_since` is from when idle time counts, None while it cannot.
    `recount` is when an uncountable time may become countable without any news.
    """

    busy: bool
    asked: float | None
    idle_since: float | None
    recount: float | None = None


def demand_of(model: Model, state: ObservedState, now: float) -> Demand:
    """Return who asks for a Model."""
    traffic = state.activity_of(model)
    fresh = [a for a in traffic if now - a.at <= HEARTBEAT_GAP]
    busy = any(a.in_flight or a.waiting for a in fresh)
    asked = [a.last for a in traffic]
    uid, woken = state.wakes.get(model.key, ("", 0.0))
    if uid == model.uid:
        asked.append(woken)
    counted_from, recount = _countable(state, now)
    last = max(asked, default=None)
    if counted_from is None:
        return Demand(busy, last, None, recount)
    marks = [counted_from, *asked, state.changed_at.get((model.key, conditions.READY), counted_from)]
    return Demand(busy, last, max(marks))


def _countable(state: ObservedState, now: float) -> tuple[float | None, float | None]:
    """Return since when every request would have been seen; else None and when to look again."""
    if state.connected_since is None:
        return None, None
    heard = [p for p in state.proxies.values() if not p.final and now - p.last <= HEARTBEAT_GAP]
    vanished = [
        p.last + VANISHED_SECONDS
        for p in state.proxies.values()
        if not p.final and now - p.last > HEARTBEAT_GAP
    ]
    missing = [until for until in vanished if until > now]
    if missing or not heard:
        return None, max(missing, default=None)
    return max(state.connected_since, min(p.since for p in heard), *vanished, 0.0), None
