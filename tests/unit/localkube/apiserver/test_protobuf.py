"""Protobuf bodies as kubectl's typed client sends them."""

import pytest

from localkube.apiserver import protobuf
from localkube.apiserver.errors import ApiError


def field(number: int, content: bytes) -> bytes:
    """Return a field of bytes."""
    assert len(content) < 128
    return bytes([number << 3 | 2, len(content)]) + content


def body(kind: str, raw: bytes) -> bytes:
    """Return what kubectl sends for an object of the core group."""
    return b"k8s\x00" + field(1, field(1, b"v1") + field(2, kind.encode())) + field(2, raw) + field(3, b"")


def test_a_namespace_has_its_name_and_labels() -> None:
    """`kubectl create namespace`."""
    meta = field(1, b"more") + field(3, b"") + field(11, field(1, b"a") + field(2, b"b"))
    assert protobuf.decode(body("Namespace", field(1, meta) + field(2, b"") + field(3, b""))) == {
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {"name": "more", "labels": {"a": "b"}},
    }


def test_a_secret_is_base64_in_json() -> None:
    """`kubectl create secret`; an immutable one, too."""
    raw = (
        field(1, field(1, b"s"))
        + field(2, field(1, b"k") + field(2, b"\xff"))
        + field(3, b"Opaque")
        + b"\x28\x01"
    )
    assert protobuf.decode(body("Secret", raw)) == {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "s"},
        "data": {"k": "/w=="},
        "type": "Opaque",
        "immutable": True,
    }


def test_a_config_map_may_have_empty_values() -> None:
    """An absent value is an empty one."""
    raw = field(1, field(1, b"c")) + field(2, field(1, b"k")) + field(3, field(1, b"b") + field(2, b"x"))
    config_map = protobuf.decode(body("ConfigMap", raw))
    assert (config_map["data"], config_map["binaryData"]) == ({"k": ""}, {"b": "eA=="})


def test_the_options_of_a_deletion_have_numbers_and_preconditions() -> None:
    """`kubectl drain --disable-eviction`; -1 is the Pod's own grace period."""
    raw = b"\x08\x07" + field(2, field(1, b"u") + field(2, b"9")) + b"\x18\x01" + field(5, b"All")
    assert protobuf.decode(body("DeleteOptions", raw)) == {
        "apiVersion": "v1",
        "kind": "DeleteOptions",
        "gracePeriodSeconds": 7,
        "preconditions": {"uid": "u", "resourceVersion": "9"},
        "orphanDependents": True,
        "dryRun": ["All"],
    }
    negative = b"\x08" + b"\xff" * 9 + b"\x01"
    assert protobuf.decode(body("DeleteOptions", negative))["gracePeriodSeconds"] == -1


def test_an_eviction_has_a_name_and_options() -> None:
    """`kubectl drain`, by the group policy."""
    raw = field(1, field(1, b"p") + field(3, b"n")) + field(2, b"\x08\x00")
    content = b"k8s\x00" + field(1, field(1, b"policy/v1") + field(2, b"Eviction")) + field(2, raw)
    assert protobuf.decode(content) == {
        "apiVersion": "policy/v1",
        "kind": "Eviction",
        "metadata": {"name": "p", "namespace": "n"},
        "deleteOptions": {"gracePeriodSeconds": 0},
    }


def test_another_kind_is_415() -> None:
    """The message names the accepted formats."""
    with pytest.raises(ApiError, match="a Job is taken as JSON or YAML only") as refused:
        protobuf.decode(body("Job", b""))
    assert refused.value.code == 415


@pytest.mark.parametrize(
    "content",
    [b"", b"{}", b"k8s\x00\x0a\xff", b"k8s\x00\x0a\x05v1", b"k8s\x00\x0b\x00", b"k8s\x00" + b"\xff" * 20],
)
def test_what_is_no_message_is_400(content: bytes) -> None:
    """Truncated, or another format."""
    with pytest.raises(ApiError) as refused:
        protobuf.decode(content)
    assert refused.value.code in (400, 415)
