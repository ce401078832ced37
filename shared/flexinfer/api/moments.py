"""Times of a status, RFC 3339 in UTC and whole seconds, as seconds since 1970. Pure: no clock is asked, no library that has one.

The conversion of dates is that of https://howardhinnant.github.io/date_algorithms.html, for the proleptic Gregorian calendar.
"""

import re

_TIME = re.compile(r"(\d{4})-(\d\d)-(\d\d)T(\d\d):(\d\d):(\d\d)Z")
_DAY, _ERA_DAYS, _SHIFT = 86_400, 146_097, 719_468
"""Seconds of a day; days of 400 years; days from 0000-03-01 to 1970-01-01."""


def moment(text: str) -> int | None:
    """Return a time as seconds since 1970; None for a text that is none."""
    parts = _TIME.fullmatch(text)
    if parts is None:
        return None
    year, month, day, hour, minute, second = map(int, parts.groups())
    at = _days(year, month, day) * _DAY + 3_600 * hour + 60 * minute + second
    return at if stamp(at) == text else None


def stamp(at: int) -> str:
    """Return seconds since 1970 as a time."""
    days, rest = divmod(at, _DAY)
    year, month, day = _date(days)
    return f"{year:04}-{month:02}-{day:02}T{rest // 3_600:02}:{rest // 60 % 60:02}:{rest % 60:02}Z"


def _days(year: int, month: int, day: int) -> int:
    era, of_era = divmod(year - (month <= 2), 400)  # noqa: PLR2004 -- years begin in March here
    of_year = (153 * ((month + 9) % 12) + 2) // 5 + day - 1
    return era * _ERA_DAYS + 365 * of_era + of_era // 4 - of_era // 100 + of_year - _SHIFT


def _date(days: int) -> tuple[int, int, int]:
    era, rest = divmod(days + _SHIFT, _ERA_DAYS)
    of_era = (rest - rest // 1_460 + rest // 36_524 - rest // 146_096) // 365
    of_year = rest - (365 * of_era + of_era // 4 - of_era // 100)
    march_month = (5 * of_year + 2) // 153
    month = (march_month + 2) % 12 + 1
    year = era * 400 + of_era + (month <= 2)  # noqa: PLR2004
    return year, month, of_year - (153 * march_month + 2) // 5 + 1
