"""Content negotiation: the Accept header to a representation (`as=Table`, `as=PartialObjectMetadata`, ...).

Like apiserver/pkg/endpoints/handlers/negotiation. Answers are always JSON: no protobuf, YAML or CBOR. Quality
values (`q=`) are ignored, since clients of the Kubernetes API list their preferred type first.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

from localkube.apiserver.errors import ApiError

JSON = "application/json"
_ANY = frozenset({"*/*", "application/*", JSON})
_FORMS = frozenset({"Table", "PartialObjectMetadata", "PartialObjectMetadataList"})
_DISCOVERY = frozenset({"v2", "v2beta1"})


@dataclass(frozen=True, slots=True)
class MediaTypeOptions:
    """One alternative of an Accept header that can be served."""

    form: str = ""  # "" is the object itself
    discovery: str = ""  # the version of aggregated discovery, "" is the unaggregated one


@lru_cache(maxsize=256)
def negotiate_object(accept: str) -> MediaTypeOptions:
    """Return the first alternative for objects that can be served. Raises ApiError 406 if there is none."""
    for media, parameters in _alternatives(accept):
        if media not in _ANY:
            continue
        form = parameters.get("as", "")
        if not form:
            return MediaTypeOptions()
        if form in _FORMS and parameters.get("g", "meta.k8s.io") == "meta.k8s.io" and _v1(parameters):
            return MediaTypeOptions(form=form)
    raise ApiError(
        406,
        "NotAcceptable",
        f"only the following media types are accepted: {JSON}, {JSON};stream=watch",
    )


@lru_cache(maxsize=64)
def negotiate_discovery(accept: str) -> MediaTypeOptions:
    """Return the first alternative for discovery documents; the default is the unaggregated form."""
    for media, parameters in _alternatives(accept):
        if media not in _ANY:
            continue
        version = parameters.get("v", "")
        if parameters.get("as") == "APIGroupDiscoveryList" and version in _DISCOVERY:
            return MediaTypeOptions(discovery=version)
        if "as" not in parameters:
            break
    return MediaTypeOptions()


def _alternatives(accept: str) -> Iterator[tuple[str, dict[str, str]]]:
    for alternative in (accept or "*/*").split(","):
        media, *rest = (part.strip() for part in alternative.split(";"))
        pairs = (part.partition("=") for part in rest)
        yield media.lower(), {key.strip(): value.strip() for key, _, value in pairs}


def _v1(parameters: dict[str, str]) -> bool:
    return parameters.get("v", "v1") in ("v1", "v1beta1")
