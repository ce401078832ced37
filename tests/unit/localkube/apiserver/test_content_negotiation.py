"""What a client accepts."""

import pytest

from localkube.apiserver.content_negotiation import Accepted, discovery_form, object_form
from localkube.apiserver.errors import ApiError

KUBECTL_GET = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json"
KUBECTL_DISCOVERY = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json"


@pytest.mark.parametrize(
    ("header", "form"),
    [
        ("", ""),
        ("*/*", ""),
        ("application/json", ""),
        ("application/vnd.kubernetes.protobuf, application/json", ""),
        (KUBECTL_GET, "Table"),
        ("application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1", "PartialObjectMetadataList"),
        ("application/json;as=Chair;g=meta.k8s.io;v=v1,application/json", ""),
    ],
)
def test_the_first_alternative_that_can_be_served_is_taken(header: str, form: str) -> None:
    """As a real API server does."""
    assert object_form(header) == Accepted(form=form)


def test_a_client_of_protobuf_alone_is_told_what_there_is() -> None:
    """A 406 with the media types."""
    with pytest.raises(ApiError) as refused:
        object_form("application/vnd.kubernetes.protobuf")
    assert refused.value.code == 406


def test_aggregated_discovery_is_for_those_who_ask() -> None:
    """All others get the old lists."""
    told = [discovery_form(header).discovery for header in (KUBECTL_DISCOVERY, "application/json", "")]
    assert told == ["v2", "", ""]
