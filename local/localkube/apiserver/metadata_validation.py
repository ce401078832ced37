"""Validation of names, labels, annotations and finalizers, with the messages of Kubernetes.

Like apimachinery/pkg/api/validation/objectmeta.go and pkg/util/validation. The schema of ObjectMeta is in
`metadata_schema`, its system fields (uid, generation, ...) in `object_metadata`.
"""

import json
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, Literal

from localkube.apiserver.errors import Cause
from localkube.apiserver.resources import Object
from localkube.apiserver.schema_validation import INVALID, TOO_LONG

NameStyle = Literal["subdomain", "label", "service"]
_SUBDOMAIN_PATTERN: Final = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*"
_LABEL_PATTERN: Final = "[a-z0-9]([-a-z0-9]*[a-z0-9])?"
_SERVICE_PATTERN: Final = "[a-z]([-a-z0-9]*[a-z0-9])?"
_QUALIFIED_PATTERN: Final = "([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]"
_VALUE_PATTERN: Final = "(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?"
_SUBDOMAIN: Final = re.compile(_SUBDOMAIN_PATTERN)
_QUALIFIED: Final = re.compile(_QUALIFIED_PATTERN)
_VALUE: Final = re.compile(_VALUE_PATTERN)
_MAX_NAME: Final = 253
_MAX_LABEL: Final = 63
_MAX_ANNOTATION_BYTES: Final = 256 * 1024


def check_metadata(new: Object, old: Object | None, style: NameStyle) -> list[Cause]:
    """Return what is wrong with an object's metadata; parts that did not change are not validated."""
    previous = old or {}
    causes: list[Cause] = []
    if new.get("name") != previous.get("name"):
        causes.extend(check_name(str(new.get("name", "")), style))
    for part, validate in _VALIDATIONS.items():
        value = new.get(part)
        if value and value is not previous.get(part):
            causes.extend(validate(value))
    return causes


def check_name(name: str, style: NameStyle) -> Iterable[Cause]:
    """Yield what is wrong with a name: an RFC 1123 subdomain or label, or the RFC 1035 label of a Service."""
    pattern, longest, problem = _STYLES[style]
    if len(name) > longest:
        yield Cause(
            INVALID,
            f"Invalid value: {json.dumps(name)}: must be no more than {longest} bytes",
            "metadata.name",
        )
    if not re.fullmatch(pattern, name):
        yield Cause(INVALID, f"Invalid value: {json.dumps(name)}: {problem}", "metadata.name")


_STYLES: Final[Mapping[NameStyle, tuple[str, int, str]]] = {
    "subdomain": (
        _SUBDOMAIN_PATTERN,
        _MAX_NAME,
        (
            "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start "
            f"and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '{_SUBDOMAIN_PATTERN}')"
        ),
    ),
    "label": (
        _LABEL_PATTERN,
        _MAX_LABEL,
        (
            "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end "
            f"with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '{_LABEL_PATTERN}')"
        ),
    ),
    "service": (
        _SERVICE_PATTERN,
        _MAX_LABEL,
        (
            "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and "
            "end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for validation is "
            f"'{_SERVICE_PATTERN}')"
        ),
    ),
}


def _check_labels(labels: Mapping[str, str]) -> Iterable[Cause]:
    for key, value in labels.items():
        yield from _check_key(key, "metadata.labels")
        if len(value) > _MAX_LABEL:
            yield Cause(
                TOO_LONG,
                f"Invalid value: {json.dumps(value)}: must be no more than 63 bytes",
                "metadata.labels",
            )
        elif not _VALUE.fullmatch(value):
            problem = (
                "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and "
                "end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is "
                f"'{_VALUE_PATTERN}')"
            )
            yield Cause(INVALID, f"Invalid value: {json.dumps(value)}: {problem}", "metadata.labels")


def _check_annotations(annotations: Mapping[str, str]) -> Iterable[Cause]:
    for key in annotations:
        yield from _check_key(key.lower(), "metadata.annotations")
    if sum(len(key) + len(value) for key, value in annotations.items()) > _MAX_ANNOTATION_BYTES:
        message = f"Too long: may not be more than {_MAX_ANNOTATION_BYTES} bytes"
        yield Cause(TOO_LONG, message, "metadata.annotations")


def _check_finalizers(finalizers: Iterable[str]) -> Iterable[Cause]:
    for name in finalizers:
        yield from _check_key(name, "metadata.finalizers")


def _check_key(key: str, field: str) -> Iterable[Cause]:
    prefix, slash, name = key.rpartition("/")
    invalid = f"Invalid value: {json.dumps(key)}:"
    if slash and (len(prefix) > _MAX_NAME or not _SUBDOMAIN.fullmatch(prefix)):
        yield Cause(INVALID, f"{invalid} prefix part {_STYLES['subdomain'][2]}", field)
    if len(name) > _MAX_LABEL:
        yield Cause(INVALID, f"{invalid} name part must be no more than 63 bytes", field)
    elif not _QUALIFIED.fullmatch(name):
        problem = (
            "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric "
            "character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is "
            f"'{_QUALIFIED_PATTERN}')"
        )
        yield Cause(INVALID, f"{invalid} {problem}", field)


_VALIDATIONS: Final[Mapping[str, Callable[[Any], Iterable[Cause]]]] = {
    "labels": _check_labels,
    "annotations": _check_annotations,
    "finalizers": _check_finalizers,
}
