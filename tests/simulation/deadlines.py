"""The settings of the simulation, and how long each wait may last with them."""

from collections.abc import Mapping

from flexinfer.agent.sample import HEARTBEAT_SECONDS as SAMPLE_SECONDS
from flexinfer.api import conditions
from flexinfer.api.reasons import Reason
from flexinfer.runtime.settings import Settings

SETTINGS = Settings(
    drain_seconds=5,
    loading_seconds=15,
    memory_free_seconds=2,
    relist_seconds=20,
    silence_seconds=12,
    runtime_class_nvidia="nvidia",
)
_LOADS, _STOPS = SETTINGS.loading_seconds + SAMPLE_SECONDS, SETTINGS.drain_seconds + 30
"""Memory that an engine is first seen to hold is progress, and the next sample may be that far away."""
DEADLINES: Mapping[tuple[str, str], float] = {
    (conditions.READY, Reason.STARTING): _LOADS,
    (conditions.READY, Reason.LOADING): _LOADS,
    (conditions.READY, Reason.RESTARTING): _LOADS,
    (conditions.READY, Reason.DRAINING): _STOPS,
    (conditions.READY, Reason.STOPPING): _STOPS,
    (conditions.CACHED, Reason.CHECKING): 10.0,
    (conditions.GRANTED, Reason.RELEASED): _STOPS,
    (conditions.GRANTED, Reason.LEAVING_GROUP): _STOPS,
    (conditions.GRANTED, Reason.QUEUED): 3 * (_LOADS + _STOPS),
    (conditions.WANTED, Reason.FIRST_START): 2 * _LOADS + _STOPS,
    (conditions.WANTED, Reason.FIRST_START_QUEUED): 3 * (_LOADS + _STOPS),
}
"""Condition type and reason -> seconds. A queued Model also waits for all before it.

An initial start may begin again after a stop: that of the Pod which was made just before the Model was placed elsewhere,
and whose engine may ignore SIGTERM.
"""
