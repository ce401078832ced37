"""What Kubernetes asks of names, labels, annotations and finalizers. The fields that there are stand in `objectmeta`."""

import json
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, Literal

from localkube.apiserver.errors import Cause
from localkube.apiserver.resources import Object
from localkube.apiserver.schema_validation import INVALID, TOO_LONG

NameStyle = Literal["subdomain", "label", "service"]
_SUBDOMAIN_TEXT: Final = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*"
_LABEL_TEXT: Final = "[a-z0-9]([-a-z0-9]*[a-z0-9])?"
_SERVICE_TEXT: Final = "[a-z]([-a-z0-9]*[a-z0-9])?"
_QUALIFIED_TEXT: Final = "([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]"
_VALUE_TEXT: Final = "(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?"
_SUBDOMAIN: Final = re.compile(_SUBDOMAIN_TEXT)
_QUALIFIED: Final = re.compile(_QUALIFIED_TEXT)
_VALUE: Final = re.compile(_VALUE_TEXT)
_LONGEST_NAME: Final = 253
_LONGEST_LABEL: Final = 63
_MOST_ANNOTATIONS: Final = 256 * 1024


def check_metadata(new: Object, old: Object | None, style: NameStyle) -> list[Cause]:
    """Return what is wrong with an object's metadata; what is as it was is not judged again."""
    former = old or {}
    causes: list[Cause] = []
    if new.get("name") != former.get("name"):
        causes.extend(check_name(str(new.get("name", "")), style))
    for part, judge in _JUDGES.items():
        value = new.get(part)
        if value and value is not former.get(part):
            causes.extend(judge(value))
    return causes


def check_name(name: str, style: NameStyle) -> Iterable[Cause]:
    """Yield what is wrong with a name in one of the three styles of Kubernetes: subdomain, label, service."""
    text, longest, why = _STYLES[style]
    if len(name) > longest:
        yield Cause(
            INVALID,
            f"Invalid value: {json.dumps(name)}: must be no more than {longest} bytes",
            "metadata.name",
        )
    if not re.fullmatch(text, name):
        yield Cause(INVALID, f"Invalid value: {json.dumps(name)}: {why}", "metadata.name")


_STYLES: Final[Mapping[NameStyle, tuple[str, int, str]]] = {
    "subdomain": (
        _SUBDOMAIN_TEXT,
        _LONGEST_NAME,
        (
            "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start "
            f"and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '{_SUBDOMAIN_TEXT}')"
        ),
    ),
    "label": (
        _LABEL_TEXT,
        _LONGEST_LABEL,
        (
            "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end "
            f"with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '{_LABEL_TEXT}')"
        ),
    ),
    "service": (
        _SERVICE_TEXT,
        _LONGEST_LABEL,
        (
            "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and "
            "end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for validation is "
            f"'{_SERVICE_TEXT}')"
        ),
    ),
}


def _check_labels(labels: Mapping[str, str]) -> Iterable[Cause]:
    for key, value in labels.items():
        yield from _check_key(key, "metadata.labels")
        if len(value) > _LONGEST_LABEL:
            yield Cause(
                TOO_LONG,
                f"Invalid value: {json.dumps(value)}: must be no more than 63 bytes",
                "metadata.labels",
            )
        elif not _VALUE.fullmatch(value):
            why = (
                "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and "
                "end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is "
                f"'{_VALUE_TEXT}')"
            )
            yield Cause(INVALID, f"Invalid value: {json.dumps(value)}: {why}", "metadata.labels")


def _check_annotations(annotations: Mapping[str, str]) -> Iterable[Cause]:
    for key in annotations:
        yield from _check_key(key.lower(), "metadata.annotations")
    if sum(len(key) + len(value) for key, value in annotations.items()) > _MOST_ANNOTATIONS:
        message = f"Too long: may not be more than {_MOST_ANNOTATIONS} bytes"
        yield Cause(TOO_LONG, message, "metadata.annotations")


def _check_finalizers(finalizers: Iterable[str]) -> Iterable[Cause]:
    for name in finalizers:
        yield from _check_key(name, "metadata.finalizers")


def _check_key(key: str, field: str) -> Iterable[Cause]:
    prefix, slash, name = key.rpartition("/")
    said = f"Invalid value: {json.dumps(key)}:"
    if slash and (len(prefix) > _LONGEST_NAME or not _SUBDOMAIN.fullmatch(prefix)):
        yield Cause(INVALID, f"{said} prefix part {_STYLES['subdomain'][2]}", field)
    if len(name) > _LONGEST_LABEL:
        yield Cause(INVALID, f"{said} name part must be no more than 63 bytes", field)
    elif not _QUALIFIED.fullmatch(name):
        why = (
            "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric "
            "character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is "
            f"'{_QUALIFIED_TEXT}')"
        )
        yield Cause(INVALID, f"{said} {why}", field)


_JUDGES: Final[Mapping[str, Callable[[Any], Iterable[Cause]]]] = {
    "labels": _check_labels,
    "annotations": _check_annotations,
    "finalizers": _check_finalizers,
}
