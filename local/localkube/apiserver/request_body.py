"""Bodies: what a request carries, decoded by its content type and checked against the path that it came by."""

from typing import Any

import msgspec
import yaml

from localkube.apiserver import protobuf
from localkube.apiserver.builtin_resources import BUILTINS
from localkube.apiserver.errors import ApiError, bad_request, unsupported_media_type
from localkube.apiserver.requests import Patch, PatchKind
from localkube.apiserver.resources import Object
from localkube.apiserver.routing import Target

LARGEST = 3 * 1024 * 1024
BUILT_IN = frozenset(one.resource.group for one in BUILTINS)
_JSON = frozenset({"application/json", "", "*/*"})
_YAML = frozenset({"application/yaml", "application/x-yaml"})
_PATCHES: dict[str, PatchKind] = {
    "application/json-patch+json": "json",
    "application/merge-patch+json": "merge",
    "application/strategic-merge-patch+json": "strategic",
    "application/apply-patch+yaml": "apply",
}
_CUSTOM_PATCHES = tuple(media for media, kind in _PATCHES.items() if kind != "strategic")
_DECODER = msgspec.json.Decoder()


class _Loader(yaml.SafeLoader):
    """Plain JSON only: a time stays the text it is."""

    yaml_implicit_resolvers = {
        first: [(tag, pattern) for tag, pattern in known if tag != "tag:yaml.org,2002:timestamp"]
        for first, known in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }


def obj(content: bytes, content_type: str, aim: Target) -> Object:
    """Return the object of a POST or PUT, with the path's kind if it says none; a 400 when it does not belong to the path."""
    media = _media(content_type)
    if media in _JSON:
        value = _json(content)
    elif media in _YAML:
        value = _yaml(content)
    elif media == protobuf.MEDIA:
        value = protobuf.obj(content)
    else:
        raise unsupported_media_type(
            "the body of the request was in an unknown format - accepted media types include: "
            "application/json, application/yaml"
        )
    return _belonging(_mapping(value), aim)


def patch(content: bytes, content_type: str, aim: Target) -> Patch:
    """Return the patch of a PATCH; a 415 for a language that the resource does not take."""
    media = _media(content_type)
    custom = aim.res.group not in BUILT_IN
    kind = _PATCHES.get(media)
    if kind is None or (custom and kind == "strategic"):
        taken = _CUSTOM_PATCHES if custom else tuple(_PATCHES)
        raise unsupported_media_type(
            "the body of the request was in an unknown format - accepted media types include: "
            + ", ".join(taken)
        )
    if kind == "apply":
        value = _json(content) if content.lstrip().startswith(b"{") else _yaml(content)
        return Patch(kind, _belonging(_mapping(value), aim))
    value = _json(content)
    wanted = list if kind == "json" else dict
    if not isinstance(value, wanted):
        what = "an array of operations" if kind == "json" else "an object"
        raise bad_request(f"error decoding patch: {what} is wanted")
    return Patch(kind, value)


def options(content: bytes) -> Object | None:
    """Return the options that a DELETE carries, if any."""
    return _mapping(_json(content)) if content.strip() else None


def too_large() -> ApiError:
    """Say that a body is larger than is taken."""
    return ApiError(413, "RequestEntityTooLarge", f"Request entity too large: limit is {LARGEST}")


def _media(content_type: str) -> str:
    return content_type.partition(";")[0].strip().lower()


def _json(content: bytes) -> Any:
    try:
        return _DECODER.decode(content)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise bad_request(f"couldn't get version/kind; json parse error: {error}") from error


def _yaml(content: bytes) -> Any:
    try:
        return yaml.load(content, Loader=_Loader)  # noqa: S506 -- a safe one
    except (yaml.YAMLError, RecursionError, UnicodeDecodeError) as error:
        raise bad_request(f"error decoding YAML: {error}") from error


def _mapping(value: Any) -> Object:
    if not isinstance(value, dict):
        raise bad_request("couldn't get version/kind; the body is not an object")
    return value


def _belonging(value: Object, aim: Target) -> Object:
    kind, version = _wanted(aim)
    given_kind, given_version = value.get("kind") or kind, value.get("apiVersion") or version
    if given_version != version:
        raise bad_request(
            f"the API version in the data ({given_version}) does not match the expected API version ({version})"
        )
    if given_kind != kind:
        raise bad_request(
            f'{given_kind} in version "{aim.res.version}" cannot be handled as a {kind}: the kinds do not match'
        )
    metadata = value.get("metadata") or {}
    if not isinstance(metadata, dict):
        raise bad_request("metadata: an object is wanted")
    return value | {"apiVersion": version, "kind": kind, "metadata": _placed(metadata, aim)}


def _wanted(aim: Target) -> tuple[str, str]:
    return ("Binding", "v1") if aim.subresource == "binding" else (aim.res.kind, aim.res.api_version)


def _placed(metadata: Object, aim: Target) -> Object:
    """Return metadata with the path's namespace; a 400 when it says another one, or another name."""
    if aim.name and metadata.get("name") not in (None, "", aim.name):
        raise bad_request(
            f"the name of the object ({metadata['name']}) does not match the name on the URL ({aim.name})"
        )
    named = metadata | {"name": aim.name} if aim.name else metadata
    if aim.namespace is None:
        return named
    if named.get("namespace") not in (None, "", aim.namespace):
        raise bad_request(
            "the namespace of the provided object does not match the namespace sent on the request"
        )
    return named | {"namespace": aim.namespace}
