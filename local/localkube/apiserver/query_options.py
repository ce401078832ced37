"""Queries: the options that stand in a request's query string, checked and typed."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast, get_args

from localkube.apiserver.errors import ApiError, bad_request
from localkube.apiserver.requests import DeleteOptions, Options, Propagation, Query, Validation
from localkube.apiserver.resources import Object

_FALSE = frozenset({"", "0", "f", "F", "false", "FALSE", "False"})
_LONGEST_MANAGER = 128
DEFAULT_SECONDS = 1800.0


@dataclass(frozen=True, slots=True)
class Version:
    """Which state of a list is asked for."""

    version: str
    match: str


@dataclass(frozen=True, slots=True)
class WatchOptions:
    """What a client asks of a watch, as its query says."""

    since: str = ""  # "" and "0": the state as it is, then what changes
    bookmarks: bool = False
    initial: bool | None = None  # sendInitialEvents
    match: str = ""
    seconds: float = DEFAULT_SECONDS

    def check(self) -> None:
        """Raise the refusal of a real API server for options that do not go together."""
        if self.initial is None and self.match:
            raise _list_refusal(
                "resourceVersionMatch: Forbidden: resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided",
            )
        if self.initial is not None and self.match != "NotOlderThan":
            raise _list_refusal(
                "resourceVersionMatch: Forbidden: sendInitialEvents requires setting resourceVersionMatch to NotOlderThan",
            )

    @property
    def from_now(self) -> bool:
        """Tell whether the present state comes first, as events."""
        return self.initial if self.initial is not None else self.since in ("", "0")


def truth(given: Mapping[str, str], name: str) -> bool:
    """Return a flag; whatever is not a way to say no is yes, `True` with a capital letter too."""
    return given.get(name, "") not in _FALSE


def selection(given: Mapping[str, str], name: str = "") -> Query:
    """Return which objects are meant; `name` narrows it to one."""
    fields = given.get("fieldSelector", "")
    if name:
        fields = ",".join(part for part in (fields, f"metadata.name={name}") if part)
    return Query(
        label_selector=given.get("labelSelector", ""),
        field_selector=fields,
        limit=_number(given, "limit"),
        continue_token=given.get("continue", ""),
    )


def watching(given: Mapping[str, str]) -> WatchOptions:
    """Return what is asked of a watch."""
    return WatchOptions(
        since=given.get("resourceVersion", ""),
        bookmarks=truth(given, "allowWatchBookmarks"),
        initial=truth(given, "sendInitialEvents") if "sendInitialEvents" in given else None,
        match=given.get("resourceVersionMatch", ""),
        seconds=float(_number(given, "timeoutSeconds") or DEFAULT_SECONDS),
    )


def listed_version(given: Mapping[str, str]) -> Version:
    """Return which state a list is to show."""
    version, match = given.get("resourceVersion", ""), given.get("resourceVersionMatch", "")
    if match and not version:
        raise _list_refusal(
            "resourceVersionMatch: Forbidden: resourceVersionMatch is forbidden unless resourceVersion is provided"
        )
    if match not in ("", "Exact", "NotOlderThan"):
        raise _list_refusal(
            f'resourceVersionMatch: Unsupported value: "{match}": supported values: "Exact", "NotOlderThan"'
        )
    if version and not version.isdigit():
        raise bad_request(
            f'Invalid value: "{version}": strconv.ParseUint: parsing "{version}": invalid syntax'
        )
    return Version(version, match)


def writing(given: Mapping[str, str], agent: str, *, apply: bool = False) -> Options:
    """Return how to write; the manager is the query's, else the first word of the User-Agent."""
    manager = given.get("fieldManager", "")
    if apply and not manager:
        raise _refusal("PatchOptions", "fieldManager: Required value: is required for apply patch")
    return Options(
        manager=manager or agent.partition("/")[0][:_LONGEST_MANAGER],
        dry_run=_dry_run(given),
        validation=_validation(given),
        force=truth(given, "force"),
    )


def patching(given: Mapping[str, str], agent: str, *, apply: bool) -> Options:
    """Return how to patch; only an apply may be forced."""
    if "force" in given and not apply:
        raise _refusal("PatchOptions", "force: Forbidden: may not be specified for non-apply patch")
    return writing(given, agent, apply=apply)


def deleting(given: Mapping[str, str], body: Object | None) -> DeleteOptions:
    """Return what must hold for a deletion: the body's word, else the query's."""
    told = body or {}
    conditions = told.get("preconditions") or {}
    policy = told.get("propagationPolicy") or given.get("propagationPolicy") or None
    if told.get("orphanDependents") is True or truth(given, "orphanDependents"):
        policy = "Orphan"
    if policy not in (None, *get_args(Propagation)):
        raise _refusal(
            "DeleteOptions",
            f'propagationPolicy: Unsupported value: "{policy}": supported values: "Background", "Foreground", "Orphan"',
        )
    grace = told.get("gracePeriodSeconds")
    if grace is None and given.get("gracePeriodSeconds"):
        grace = _number(given, "gracePeriodSeconds")
    return DeleteOptions(
        uid=conditions.get("uid"),
        resource_version=conditions.get("resourceVersion"),
        propagation=cast("Propagation | None", policy),
        grace_seconds=grace,
        dry_run=_dry_run(given) or told.get("dryRun") == ["All"],
    )


def _dry_run(given: Mapping[str, str]) -> bool:
    asked = given.get("dryRun")
    if asked not in (None, "", "All"):
        raise _refusal("Options", f'dryRun: Unsupported value: "{asked}": supported values: "All"')
    return asked == "All"


def _validation(given: Mapping[str, str]) -> Validation:
    asked = given.get("fieldValidation") or "Warn"
    for known in get_args(Validation):
        if asked == known:
            return known  # type: ignore[no-any-return]
    raise _refusal(
        "Options",
        f'fieldValidation: Unsupported value: "{asked}": supported values: "Ignore", "Strict", "Warn"',
    )


def _number(given: Mapping[str, str], name: str) -> int:
    text = given.get(name) or "0"
    try:
        return int(text)
    except ValueError as error:
        raise bad_request(f'strconv.ParseInt: parsing "{text}": invalid syntax') from error


def _list_refusal(why: str) -> ApiError:
    return _refusal("ListOptions", why)


def _refusal(options: str, why: str) -> ApiError:
    return ApiError(422, "Invalid", f'{options}.meta.k8s.io "" is invalid: {why}', {})
