"""Demand: when a Model was last requested, and since when it counts as idle. Pure.

A Model without reports is not idle: its requests may have gone unobserved. Idle time counts only while NATS
is connected, at least one proxy sends heartbeats, and no proxy has gone silent without a shutdown message in
the last minute. Whatever interrupts that restarts the idle time.
"""

import msgspec

from flexinfer.api import conditions
from flexinfer.api.model import Model
from flexinfer.state.observed import HEARTBEAT_GAP, ObservedState, ProxyHeartbeat

LATE_SECONDS = 7.5
"""Seconds after which the next heartbeat of a proxy is late: what it reports may be late too, and is waited for."""
VANISHED_SECONDS = 60.0
"""How long a proxy that went silent without a shutdown message keeps idle time from counting.

It may still serve requests."""


class Demand(msgspec.Struct, frozen=True, kw_only=True):
    """The requests for one Model; times are monotonic seconds.

    `busy`: a request is in flight or queued; `busy_until` is when that becomes too old to be relied on. `queued` requests
    wait, the first since `queued_since`, as the proxy `queued_by` reported; None and empty if unknown. `last_request` is the time of the last one, None if none was
    observed; `proxy` is the one that reported it, empty if unknown. `idle_since` is from when idle time
    counts, None while it cannot. `recheck_at` is when it may begin to count although nothing happens, `late_at` when it stops to, unless
    the proxies are heard until then.
    """

    busy: bool
    busy_until: float | None
    queued: int
    queued_since: float | None
    queued_by: str
    last_request: float | None
    proxy: str
    idle_since: float | None
    recheck_at: float | None
    late_at: float | None


def demand_of(model: Model, state: ObservedState, now: float) -> Demand:
    """Return the demand for a Model."""
    traffic = [(activity, proxy) for proxy, activity in state.activity_of(model).items()]
    requests = [(activity.last, proxy) for activity, proxy in traffic]
    uid, wake_at = state.wakes.get(model.key, ("", 0.0))
    if uid == model.uid:
        requests.append((wake_at, ""))
    last_request, proxy = max(requests, default=(None, ""))
    observing_since, recheck_at, late_at = _observing_since(state, now)
    idle_since = observing_since
    if observing_since is not None:
        # A Model that has just become ready gets the whole timeout, however long it took to load.
        ready_changed_at = state.changed(model, conditions.READY) or 0.0
        # What proxies reported of a Model is forgotten with it: one that was wrongly taken for deleted is counted from then on.
        first_seen_at = state.first_seen.get(model.uid, 0.0)
        idle_since = max(observing_since, ready_changed_at, first_seen_at, *(at for at, _ in requests))
    recent = [(a, name) for a, name in traffic if now < a.at + HEARTBEAT_GAP]
    busy_until = max((a.at + HEARTBEAT_GAP for a, _ in recent if a.in_flight or a.waiting), default=None)
    queued_since, queued_by = min(((a.last, name) for a, name in recent if a.waiting), default=(None, ""))
    return Demand(
        busy=busy_until is not None,
        busy_until=busy_until,
        queued=sum(a.waiting for a, _ in recent),
        queued_since=queued_since,
        queued_by=queued_by,
        last_request=last_request,
        proxy=proxy,
        idle_since=idle_since,
        recheck_at=recheck_at,
        late_at=late_at,
    )


def _observing_since(state: ObservedState, now: float) -> tuple[float | None, float | None, float | None]:
    """Return since when every request would have been observed, else None and when to look again; and until when that is so unless more is heard."""
    if state.connected_since is None:
        return None, None, None
    running = [proxy for proxy in state.proxies.values() if not proxy.final]
    live = [proxy for proxy in running if now < proxy.last + HEARTBEAT_GAP]
    vanish_times = [proxy.last + VANISHED_SECONDS for proxy in running if now >= proxy.last + HEARTBEAT_GAP]
    late_at = min((proxy.last + LATE_SECONDS for proxy in live), default=None)
    if late_at is not None and now >= late_at:
        return None, now + 1.0, None
    pending = [until for until in vanish_times if until > now]
    if pending or not live:
        return None, max(pending, default=None), None
    since = min(proxy.since for proxy in live)
    return max(state.connected_since, since, *vanish_times, 0.0), None, late_at


def any_heard_again(before: ObservedState, after: ObservedState) -> bool:
    """Return whether a proxy began, ended, or was late: a heartbeat that is on time alters no decision."""
    if before.proxies.keys() != after.proxies.keys():
        return True
    return any(_is_news(before.proxies[name], heartbeat) for name, heartbeat in after.proxies.items())


def _is_news(before: ProxyHeartbeat, after: ProxyHeartbeat) -> bool:
    late = after.last - before.last > LATE_SECONDS
    return late or (before.since, before.final) != (after.since, after.final)
