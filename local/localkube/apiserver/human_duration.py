"""Ages as kubectl's users know them: 5s, 3m12s, 4h, 2d7h."""

from datetime import datetime

from localkube.apiserver.resources import Object

UNKNOWN, INVALID = "<unknown>", "<invalid>"
_MINUTE, _HOUR, _DAY, _YEAR = 60, 3600, 86400, 365 * 86400


def human(seconds: float) -> str:
    """Return a duration in the one or two units that matter at its size."""
    whole = int(seconds)
    if whole < 0:
        return INVALID if whole < -1 else "0s"
    for below, unit, sign, finer, finer_sign in _SCALE:
        if whole < below:
            big, rest = divmod(whole, unit)
            small = rest // finer if finer else 0
            return f"{big}{sign}" + (f"{small}{finer_sign}" if small else "")
    return f"{whole // _YEAR}y"


_SCALE = (  # below, unit, its sign, finer unit (0: none), its sign
    (2 * _MINUTE, 1, "s", 0, ""),
    (10 * _MINUTE, _MINUTE, "m", 1, "s"),
    (3 * _HOUR, _MINUTE, "m", 0, ""),
    (8 * _HOUR, _HOUR, "h", _MINUTE, "m"),
    (2 * _DAY, _HOUR, "h", 0, ""),
    (8 * _DAY, _DAY, "d", _HOUR, "h"),
    (2 * _YEAR, _DAY, "d", 0, ""),
    (8 * _YEAR, _YEAR, "y", _DAY, "d"),
)


def moment(text: str) -> datetime | None:
    """Return a timestamp of the API; None when it is not one."""
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        return None


def since(text: str | None, now: datetime) -> str:
    """Return how long ago a timestamp was."""
    if not text:
        return UNKNOWN
    then = moment(text)
    return human((now - then).total_seconds()) if then and then.tzinfo else INVALID


def age(obj: Object, now: datetime) -> str:
    """Return how long ago an object was created."""
    return since(obj["metadata"].get("creationTimestamp"), now)
