"""Request bodies: decoded by their content type, and checked against the resource that the path names.

Like apiserver/pkg/endpoints/handlers/{create,update,patch}.go. Bodies are JSON, YAML or, for a few kinds,
protobuf.
"""

from typing import Any

import msgspec
import yaml

from localkube.apiserver import protobuf
from localkube.apiserver.builtin_resources import BUILTINS
from localkube.apiserver.errors import ApiError, bad_request, unsupported_media_type
from localkube.apiserver.requests import Patch, PatchKind
from localkube.apiserver.resources import Object
from localkube.apiserver.routing import Target

MAX_BYTES = 3 * 1024 * 1024  # bytes, as a real API server
BUILT_IN = frozenset(definition.resource.group for definition in BUILTINS)
_JSON = frozenset({"application/json", "", "*/*"})
_YAML = frozenset({"application/yaml", "application/x-yaml"})
_PATCHES: dict[str, PatchKind] = {
    "application/json-patch+json": "json",
    "application/merge-patch+json": "merge",
    "application/strategic-merge-patch+json": "strategic",
    "application/apply-patch+yaml": "apply",
}
_CUSTOM_PATCHES = tuple(media for media, kind in _PATCHES.items() if kind != "strategic")
_SUBRESOURCE_TYPES = {"binding": ("Binding", "v1"), "eviction": ("Eviction", "policy/v1")}
_DECODER = msgspec.json.Decoder()


class _Loader(yaml.SafeLoader):
    """YAML with the types of JSON only: timestamps stay strings."""

    yaml_implicit_resolvers = {
        first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }


def decode_object(content: bytes, content_type: str, target: Target) -> Object:
    """Return the object of a POST or PUT; type, name and namespace default to those of the path.

    Raises ApiError 400 when it is malformed or contradicts the path, 415 for another content type.
    """
    obj = _mapping(_decoded(content, content_type))
    if target.res.group not in BUILT_IN and not obj.get("kind"):
        text = content.decode(errors="replace")
        raise bad_request(
            f"the object provided is unrecognized (must be of type {target.res.kind}): "
            f"Object 'Kind' is missing in '{text}' ({text})"
        )
    return _check_target(obj, target)


def _decoded(content: bytes, content_type: str) -> Any:
    media = _media(content_type)
    if media in _JSON:
        return _json(content)
    if media in _YAML:
        return _yaml(content)
    if media == protobuf.MEDIA:
        return protobuf.decode(content)
    raise unsupported_media_type(
        "the body of the request was in an unknown format - accepted media types include: "
        "application/json, application/yaml"
    )


def decode_patch(content: bytes, content_type: str, target: Target) -> Patch:
    """Return the patch of a PATCH.

    Raises ApiError 415 for a patch type that the resource does not support, else 400.
    """
    media = _media(content_type)
    custom = target.res.group not in BUILT_IN
    kind = _PATCHES.get(media)
    if kind is None or (custom and kind == "strategic"):
        content_types = _CUSTOM_PATCHES if custom else tuple(_PATCHES)
        raise unsupported_media_type(
            "the body of the request was in an unknown format - accepted media types include: "
            + ", ".join(content_types)
        )
    if kind == "apply":
        value = _json(content) if content.lstrip().startswith(b"{") else _yaml(content)
        return Patch(kind, _check_target(_mapping(value), target))
    value = _json(content)
    expected_type = list if kind == "json" else dict
    if not isinstance(value, expected_type):
        what = "an array of operations" if kind == "json" else "an object"
        raise bad_request(f"error decoding patch: {what} is wanted")
    return Patch(kind, value)


def decode_delete_options(content: bytes, content_type: str) -> Object | None:
    """Return the DeleteOptions in the body of a DELETE, None if it is empty; raises ApiError 400 and 415."""
    if not content.strip():
        return None
    return _mapping(_decoded(content, content_type))


def too_large() -> ApiError:
    """Return the error of a body that is larger than MAX_BYTES."""
    return ApiError(413, "RequestEntityTooLarge", f"Request entity too large: limit is {MAX_BYTES}")


def _media(content_type: str) -> str:
    return content_type.partition(";")[0].strip().lower()


def _json(content: bytes) -> Any:
    try:
        return _DECODER.decode(content)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise bad_request(f"couldn't get version/kind; json parse error: {error}") from error


def _yaml(content: bytes) -> Any:
    try:
        return yaml.load(content, Loader=_Loader)  # noqa: S506 -- a subclass of SafeLoader
    except (yaml.YAMLError, RecursionError, UnicodeDecodeError) as error:
        raise bad_request(f"error decoding YAML: {error}") from error


def _mapping(value: Any) -> Object:
    if not isinstance(value, dict):
        raise bad_request("couldn't get version/kind; the body is not an object")
    return value


def _check_target(value: Object, target: Target) -> Object:
    kind, version = _expected_type(target)
    body_kind, body_version = value.get("kind") or kind, value.get("apiVersion") or version
    if body_version != version:
        raise bad_request(
            f"the API version in the data ({body_version}) does not match the expected API version ({version})"
        )
    if body_kind != kind:
        raise bad_request(
            f'{body_kind} in version "{target.res.version}" cannot be handled as a {kind}: the kinds do not match'
        )
    metadata = value.get("metadata") or {}
    if not isinstance(metadata, dict):
        raise bad_request("metadata: an object is wanted")
    return value | {"apiVersion": version, "kind": kind, "metadata": _metadata_for(metadata, target)}


def _expected_type(target: Target) -> tuple[str, str]:
    return _SUBRESOURCE_TYPES.get(target.subresource, (target.res.kind, target.res.api_version))


def _metadata_for(metadata: Object, target: Target) -> Object:
    """Return metadata with the name and namespace of the path; raises ApiError 400 for any others."""
    if target.name and metadata.get("name") not in (None, "", target.name):
        raise bad_request(
            f"the name of the object ({metadata['name']}) does not match the name on the URL ({target.name})"
        )
    full_metadata = metadata | {"name": target.name} if target.name else metadata
    if target.namespace is None:
        return full_metadata
    if full_metadata.get("namespace") not in (None, "", target.namespace):
        raise bad_request(
            "the namespace of the provided object does not match the namespace sent on the request"
        )
    return full_metadata | {"namespace": target.namespace}
