"""Messages of Wanted and their evidence: the last request, in wall-clock time, for people only. Pure."""

from flexinfer.reaper.model_state import ModelState


def idle_message(item: ModelState, clock_offset: float | None) -> str:
    """Return why a Model is scaled to zero: the timeout that has passed, and the last request.

    `clock_offset` are the seconds from the monotonic clock to POSIX time, None if they were never compared.
    """
    timeout = item.model.spec.serverless.idle_timeout
    return f"idle for {timeout} ({last_request(item, clock_offset)}); the next request starts it"


def not_requested_message(item: ModelState, clock_offset: float | None) -> str:
    """Return why a Model whose failed start no longer counts is not started: its spec has changed since."""
    return f"no request is waiting ({last_request(item, clock_offset)}); the next request starts it"


def requested_message(item: ModelState, clock_offset: float | None) -> str:
    """Return when and at which proxy the requests arrived that the start was decided on; a hint alone names no proxy.

    It is written once and stays while the Model is wanted: so it says what happened, and not what waits, which changes.
    """
    demand = item.demand
    number = max(1, demand.queued)
    since = demand.queued_since if demand.queued_since is not None else demand.last_request
    time = (
        f" at {_time_of_day(since + clock_offset)}" if since is not None and clock_offset is not None else ""
    )
    proxy = f" by {demand.queued_by}" if demand.queued_by else ""
    more = f" ({number} requests)" if number > 1 else ""
    return f"requested{time}{proxy}{more}"


def serving_message(item: ModelState) -> str:
    """Return until when a Model keeps running."""
    return f"active; scales to zero after {item.model.spec.serverless.idle_timeout} without requests"


def last_request(item: ModelState, clock_offset: float | None) -> str:
    """Return when the last request was, in UTC, and which proxy reported it.

    What no proxy has reported since this process started is read from lastActiveTime: it then has no proxy's
    name.
    """
    demand, last_active = item.demand, item.model.status.last_active_time
    if demand.last_request is None:
        return (
            f"last request {_time_of(last_active)}" if last_active else "no request since its initial start"
        )
    time = f" {_time_of_day(demand.last_request + clock_offset)}" if clock_offset is not None else ""
    return f"last request{time}{f' by {demand.proxy}' if demand.proxy else ''}"


def _time_of(timestamp: str) -> str:
    """Return the time of day of an RFC 3339 timestamp in UTC."""
    return timestamp.partition("T")[2].removesuffix("Z")


def _time_of_day(posix: float) -> str:
    minutes, seconds = divmod(int(posix) % 86400, 60)
    return f"{minutes // 60:02}:{minutes % 60:02}:{seconds:02}"
