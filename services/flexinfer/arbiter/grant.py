"""A grant: a member gets its turn, if the devices have room for it by what is so now."""

from collections.abc import Sequence

from flexinfer.api.sharedgroup import GRANTED, SharedGroup
from flexinfer.arbiter import status
from flexinfer.arbiter.foreign_holders import held_by_another
from flexinfer.arbiter.member import Member
from flexinfer.arbiter.objects import protect, put, record_step
from flexinfer.arbiter.telemetry import Telemetry
from flexinfer.events import events
from flexinfer.events.events import AnyEvent
from flexinfer.runtime.runtime import Runtime
from flexinfer.runtime.status_writer import rfc3339


def may_have(member: Member, group: SharedGroup, telemetry: Telemetry, now: float) -> bool:
    """Return whether a member may have its devices beside all that are on the list of its group, by what was last observed."""
    return not telemetry.is_awaited(member, now) and telemetry.has_room(member, group, now)


async def grant(
    runtime: Runtime,
    member: Member,
    current: SharedGroup,
    groups: Sequence[SharedGroup],
    telemetry: Telemetry,
) -> Sequence[AnyEvent]:
    """Grant devices to a member that was just read, as were its group and all others. Raises ApiError, ConflictError.

    The caller holds `telemetry.granting` of the node.
    """
    if current.holder(member.uid) is not None or current.deleting or not current.initialized:
        return [events.GroupObserved(group=current)]
    if held_by_another(member, current, groups, telemetry.nodes):
        return [events.GroupObserved(group=current), *(events.GroupObserved(group=group) for group in groups)]
    now = runtime.clock()
    if not may_have(member, current, telemetry, now):
        return [events.GroupObserved(group=current)]
    node = member.placement.node
    current = await protect(runtime, current)
    now = runtime.clock()
    shared, snapshot = telemetry.shares(member, current, now), telemetry.seen(node, member.uid, now)
    away_seconds = telemetry.away_seconds(member, now)
    new_status = status.granted(
        current, member, snapshot, rfc3339(runtime), shared=shared, away_seconds=away_seconds
    )
    latest = await put(runtime, current, new_status)
    uuids = ", ".join(device.uuid for device in new_status.devices)
    where = f" on node {node}{f' ({uuids})' if uuids else ''}" if node else ""
    record_step(runtime, latest, GRANTED, f"turn {new_status.turn} granted to {member.label}{where}")
    return [events.GroupObserved(group=latest)]
