"""Query parameters: ListOptions, CreateOptions, PatchOptions and DeleteOptions, parsed and validated.

Like apimachinery/pkg/apis/meta/internalversion/validation and meta/v1/validation. Unknown parameters are
ignored.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast, get_args

from localkube.apiserver.errors import ApiError, bad_request
from localkube.apiserver.requests import DeleteOptions, Options, Propagation, Query, Validation
from localkube.apiserver.resources import Object

_FALSE = frozenset({"", "0", "f", "F", "false", "FALSE", "False"})
_MAX_MANAGER_LENGTH = 128
DEFAULT_SECONDS = 1800.0


@dataclass(frozen=True, slots=True)
class ListVersion:
    """The resourceVersion and resourceVersionMatch of a list."""

    version: str
    match: str


@dataclass(frozen=True, slots=True)
class WatchOptions:
    """The options of a watch; `seconds` is its timeout."""

    since: str = ""  # "" and "0": the current state first, then changes
    bookmarks: bool = False
    initial: bool | None = None  # sendInitialEvents
    match: str = ""
    seconds: float = DEFAULT_SECONDS

    def check(self) -> None:
        """Raise ApiError 422 for a combination of options that a real API server refuses."""
        if self.initial is None and self.match:
            raise _invalid_list_options(
                "resourceVersionMatch: Forbidden: resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided",
            )
        if self.initial is not None and self.match != "NotOlderThan":
            raise _invalid_list_options(
                "resourceVersionMatch: Forbidden: sendInitialEvents requires setting resourceVersionMatch to NotOlderThan",
            )

    @property
    def from_now(self) -> bool:
        """Return whether the current state is sent first, as ADDED events."""
        return self.initial if self.initial is not None else self.since in ("", "0")


def parse_bool(query: Mapping[str, str], name: str) -> bool:
    """Return a boolean parameter: any value except a spelling of false is true, as in Kubernetes."""
    return query.get(name, "") not in _FALSE


def list_query(query: Mapping[str, str], name: str = "") -> Query:
    """Return the selectors, limit and continue token; `name` restricts the selection to one object."""
    fields = query.get("fieldSelector", "")
    if name:
        fields = ",".join(part for part in (fields, f"metadata.name={name}") if part)
    return Query(
        label_selector=query.get("labelSelector", ""),
        field_selector=fields,
        limit=_integer(query, "limit"),
        continue_token=query.get("continue", ""),
    )


def watch_options(query: Mapping[str, str]) -> WatchOptions:
    """Return the options of a watch; raises ApiError 400 for a timeout that is not a number."""
    return WatchOptions(
        since=query.get("resourceVersion", ""),
        bookmarks=parse_bool(query, "allowWatchBookmarks"),
        initial=parse_bool(query, "sendInitialEvents") if "sendInitialEvents" in query else None,
        match=query.get("resourceVersionMatch", ""),
        seconds=float(_integer(query, "timeoutSeconds") or DEFAULT_SECONDS),
    )


def list_version(query: Mapping[str, str]) -> ListVersion:
    """Return the version that a list has to show; raises ApiError 422 or 400 when it is malformed."""
    version, match = query.get("resourceVersion", ""), query.get("resourceVersionMatch", "")
    if match and not version:
        raise _invalid_list_options(
            "resourceVersionMatch: Forbidden: resourceVersionMatch is forbidden unless resourceVersion is provided"
        )
    if match not in ("", "Exact", "NotOlderThan"):
        raise _invalid_list_options(
            f'resourceVersionMatch: Unsupported value: "{match}": supported values: "Exact", "NotOlderThan"'
        )
    if version and not version.isdigit():
        raise bad_request(
            f'Invalid value: "{version}": strconv.ParseUint: parsing "{version}": invalid syntax'
        )
    return ListVersion(version, match)


def write_options(query: Mapping[str, str], agent: str, *, apply: bool = False) -> Options:
    """Return the options of a write; the default field manager is the User-Agent up to its first slash.

    Raises ApiError 422 for an invalid option, and for an apply without a fieldManager.
    """
    manager = query.get("fieldManager", "")
    if apply and not manager:
        raise _invalid_options("PatchOptions", "fieldManager: Required value: is required for apply patch")
    return Options(
        manager=manager or agent.partition("/")[0][:_MAX_MANAGER_LENGTH],
        dry_run=_dry_run(query),
        validation=_validation(query),
        force=parse_bool(query, "force"),
    )


def patch_options(query: Mapping[str, str], agent: str, *, apply: bool) -> Options:
    """Return the options of a patch; ApiError 422 as `write_options`, and for `force` without apply."""
    if "force" in query and not apply:
        raise _invalid_options("PatchOptions", "force: Forbidden: may not be specified for non-apply patch")
    return write_options(query, agent, apply=apply)


def delete_options(query: Mapping[str, str], body: Object | None) -> DeleteOptions:
    """Return the options of a deletion; those of the body take precedence over the query's. Raises ApiError 422."""
    options = body or {}
    conditions = options.get("preconditions") or {}
    policy = options.get("propagationPolicy") or query.get("propagationPolicy") or None
    if options.get("orphanDependents") is True or parse_bool(query, "orphanDependents"):
        policy = "Orphan"
    if policy not in (None, *get_args(Propagation)):
        raise _invalid_options(
            "DeleteOptions",
            f'propagationPolicy: Unsupported value: "{policy}": supported values: "Background", "Foreground", "Orphan"',
        )
    grace = options.get("gracePeriodSeconds")
    if grace is None and query.get("gracePeriodSeconds"):
        grace = _integer(query, "gracePeriodSeconds")
    return DeleteOptions(
        uid=conditions.get("uid"),
        resource_version=conditions.get("resourceVersion"),
        propagation=cast("Propagation | None", policy),
        grace_seconds=grace,
        dry_run=_dry_run(query) or options.get("dryRun") == ["All"],
    )


def _dry_run(query: Mapping[str, str]) -> bool:
    value = query.get("dryRun")
    if value not in (None, "", "All"):
        raise _invalid_options("Options", f'dryRun: Unsupported value: "{value}": supported values: "All"')
    return value == "All"


def _validation(query: Mapping[str, str]) -> Validation:
    value = query.get("fieldValidation") or "Warn"
    for choice in get_args(Validation):
        if value == choice:
            return choice  # type: ignore[no-any-return]
    raise _invalid_options(
        "Options",
        f'fieldValidation: Unsupported value: "{value}": supported values: "Ignore", "Strict", "Warn"',
    )


def _integer(query: Mapping[str, str], name: str) -> int:
    text = query.get(name) or "0"
    try:
        return int(text)
    except ValueError as error:
        raise bad_request(f'strconv.ParseInt: parsing "{text}": invalid syntax') from error


def _invalid_list_options(message: str) -> ApiError:
    return _invalid_options("ListOptions", message)


def _invalid_options(kind: str, message: str) -> ApiError:
    return ApiError(422, "Invalid", f'{kind}.meta.k8s.io "" is invalid: {message}', {})
