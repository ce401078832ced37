"""What the status of a Model says of its shared group. Pure."""

from flexinfer.api.base import Resource


class GroupMembership(Resource, frozen=True, kw_only=True):
    """A member's part in its shared group; `state` is Holding, Queued, Releasing, Blocked or Idle.

    The group itself is `api.sharedgroup.SharedGroup`.
    """

    group: str = ""
    state: str = ""
    turn: int = 0
    position: int = 0
    holders: tuple[str, ...] = ()
    since: str = ""
    expected_time: str = ""
    """When it is expected to be granted its turn, as RFC 3339; empty if that is not known."""
