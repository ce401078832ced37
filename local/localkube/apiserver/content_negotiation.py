"""What a client accepts, from its Accept header: which media type, and in which form (`as=Table` and its like).

Weights (`q=`) are not looked at: clients of the Kubernetes API put what they like best first.
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
class Accepted:
    """One alternative of an Accept header that can be served."""

    form: str = ""  # "" is the object itself
    discovery: str = ""  # a version of aggregated discovery, "" is the old one


@lru_cache(maxsize=256)
def object_form(accept: str) -> Accepted:
    """Return the first alternative for objects; a 406 when there is none."""
    for media, parameters in _alternatives(accept):
        if media not in _ANY:
            continue
        form = parameters.get("as", "")
        if not form:
            return Accepted()
        if form in _FORMS and parameters.get("g", "meta.k8s.io") == "meta.k8s.io" and _v1(parameters):
            return Accepted(form=form)
    raise ApiError(
        406,
        "NotAcceptable",
        f"only the following media types are accepted: {JSON}, {JSON};stream=watch",
    )


@lru_cache(maxsize=64)
def discovery_form(accept: str) -> Accepted:
    """Return the first alternative for discovery documents; whoever asks for none gets the old form."""
    for media, parameters in _alternatives(accept):
        if media not in _ANY:
            continue
        version = parameters.get("v", "")
        if parameters.get("as") == "APIGroupDiscoveryList" and version in _DISCOVERY:
            return Accepted(discovery=version)
        if "as" not in parameters:
            break
    return Accepted()


def _alternatives(accept: str) -> Iterator[tuple[str, dict[str, str]]]:
    for alternative in (accept or "*/*").split(","):
        media, *rest = (part.strip() for part in alternative.split(";"))
        pairs = (part.partition("=") for part in rest)
        yield media.lower(), {key.strip(): value.strip() for key, _, value in pairs}


def _v1(parameters: dict[str, str]) -> bool:
    return parameters.get("v", "v1") in ("v1", "v1beta1")
