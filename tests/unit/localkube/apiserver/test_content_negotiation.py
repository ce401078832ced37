"""Content negotiation by the Accept header."""

import pytest

from localkube.apiserver.content_negotiation import (
    MediaTypeOptions,
    negotiate_discovery,
    negotiate_object,
)
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
        ("application/json;as=Other;g=meta.k8s.io;v=v1,application/json", ""),
    ],
)
def test_the_first_supported_alternative_is_used(header: str, form: str) -> None:
    """As a real API server does."""
    assert negotiate_object(header) == MediaTypeOptions(form=form)


def test_a_client_that_accepts_only_protobuf_is_refused() -> None:
    """With a 406."""
    with pytest.raises(ApiError) as refused:
        negotiate_object("application/vnd.kubernetes.protobuf")
    assert refused.value.code == 406


def test_aggregated_discovery_is_served_on_request() -> None:
    """Other clients get the unaggregated form."""
    versions = [
        negotiate_discovery(header).discovery for header in (KUBECTL_DISCOVERY, "application/json", "")
    ]
    assert versions == ["v2", "", ""]
