"""Ages in the columns of tables: 5s, 3m12s, 4h, 2d7h (apimachinery/pkg/util/duration)."""

from datetime import datetime

from localkube.apiserver.resources import Object

UNKNOWN, INVALID = "<unknown>", "<invalid>"
_MINUTE, _HOUR, _DAY, _YEAR = 60, 3600, 86400, 365 * 86400


def format_duration(seconds: float) -> str:
    """Return a duration, given in seconds, in one or two units (duration.HumanDuration)."""
    whole = int(seconds)
    if whole < 0:
        return INVALID if whole < -1 else "0s"
    for limit, unit, suffix, minor_unit, minor_suffix in _SCALE:
        if whole < limit:
            major, rest = divmod(whole, unit)
            minor = rest // minor_unit if minor_unit else 0
            return f"{major}{suffix}" + (f"{minor}{minor_suffix}" if minor else "")
    return f"{whole // _YEAR}y"


_SCALE = (  # limit, unit, its suffix, minor unit (0: none), its suffix
    (2 * _MINUTE, 1, "s", 0, ""),
    (10 * _MINUTE, _MINUTE, "m", 1, "s"),
    (3 * _HOUR, _MINUTE, "m", 0, ""),
    (8 * _HOUR, _HOUR, "h", _MINUTE, "m"),
    (2 * _DAY, _HOUR, "h", 0, ""),
    (8 * _DAY, _DAY, "d", _HOUR, "h"),
    (2 * _YEAR, _DAY, "d", 0, ""),
    (8 * _YEAR, _YEAR, "y", _DAY, "d"),
)


def parse_time(text: str) -> datetime | None:
    """Return an API timestamp (RFC 3339), None if it is malformed."""
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        return None


def since(text: str | None, now: datetime) -> str:
    """Return the time since a timestamp: `<unknown>` without one, `<invalid>` if it cannot be parsed."""
    if not text:
        return UNKNOWN
    then = parse_time(text)
    return format_duration((now - then).total_seconds()) if then and then.tzinfo else INVALID


def age(obj: Object, now: datetime) -> str:
    """Return the time since an object was created."""
    return since(obj["metadata"].get("creationTimestamp"), now)
