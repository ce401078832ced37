"""Whether it is seen what uses the devices of a lease before its grant: by that its own processes are recognised at its end. Pure.

A lease waits for it without a deadline, since a grant in doubt could not be taken back: what it waits for and the exits are its message.
"""

import math

from flexinfer.arbiter.member import Member
from flexinfer.arbiter.memory_release import is_recent
from flexinfer.state.observed import STALE_SECONDS, ObservedState


def unseen(member: Member, state: ObservedState, now: float) -> str:
    """Return why it is not seen what uses a lease's devices, and the exits; empty if it is, or if the devices are not named: telemetry names them."""
    node, sample = member.placement.node, state.gpus.get(member.placement.node)
    devices = (
        {device.uuid for device in sample.observed.devices}
        if is_recent(sample, now) and sample
        else set[str]()
    )
    missing = ", ".join(uuid for uuid in member.placement.uuids if uuid not in devices)
    if not missing:
        return ""
    if now < first_due(node, state):
        return f"waiting for telemetry of node {node}: what uses {missing} before the lease is not known yet"
    if not is_recent(sample, now):
        cause, exits = f"node {node} sends no telemetry", f"start the agent on {node} again"
    else:
        cause, exits = (
            f"telemetry of node {node} does not show {missing} now",
            f"restart node {node} if the device is lost",
        )
    meta = member.object.metadata
    give = f"flexinfer lease give {meta.name} -n {meta.namespace}"
    return f"{cause}, so what uses {missing} before the lease is not known; {exits}, or end the wait: {give}"


def first_due(node: str, state: ObservedState) -> float:
    """Return until when telemetry of a node may still come since NATS is connected; infinite while it is not, and nothing that is sent arrives."""
    connected_at, sample = state.connected_since, state.gpus.get(node)
    if connected_at is None:
        return math.inf
    return 0.0 if sample is not None and sample.at >= connected_at else connected_at + STALE_SECONDS
