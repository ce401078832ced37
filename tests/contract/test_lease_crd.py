"""The CRD of the GPULease: its columns and rules, and that its structs and the code's own check say the same."""

from typing import Any

import msgspec
import pytest

from flexinfer.api.groupversion import GROUP, LEASE_KIND, LEASE_PLURAL, VERSION
from flexinfer.api.lease import GPULease, GPULeaseSpec, GPULeaseStatus, problem
from flexinfer.api.lease_reasons import ENDED, LEASE_FACTS, LeaseReason
from localkube.apiserver.errors import ApiError
from localkube.apiserver.resources import Object
from tests.contract.test_crd import parts
from tests.contract.test_crd_and_structs import differences
from tests.contract.test_shared_group_crd import CONDITION, HOLDER
from tests.definitions import ROOT, a_registry, the_lease_crd

SERVED: Object = the_lease_crd()["spec"]["versions"][0]
SCHEMA: Object = SERVED["schema"]["openAPIV3Schema"]
STATUS: Object = {
    "observedGeneration": 1,
    "position": 1,
    "turn": 41,
    "sharedGroup": "6f1a",
    "node": "box",
    "devices": HOLDER["devices"],
    "since": "2026-11-01T20:00:00Z",
    "expiresAt": "2026-11-01T22:00:00Z",
    "conditions": [CONDITION | {"type": "Granted"}],
}


def body(**spec: Any) -> Object:
    """Return a lease as a user writes it."""
    meta = {"name": "game", "namespace": "default"}
    version = f"{GROUP}/{VERSION}"
    return {"apiVersion": version, "kind": LEASE_KIND, "metadata": meta, "spec": {"group": "card"} | spec}


def admitted(new: Object, old: Object | None = None) -> Object:
    """Return a lease as it is stored. Raises ApiError if it is refused."""
    registry = a_registry()
    kind = registry.find(GROUP, VERSION, LEASE_PLURAL)
    assert kind is not None
    stored: Object = registry.admit(kind, new, old, validation="Strict").obj
    return stored


def test_it_is_found_by_the_names_that_the_code_and_the_documentation_use() -> None:
    """`kubectl get gl`, its status apart from its spec."""
    names = the_lease_crd()["spec"]["names"]
    assert (names["kind"], names["plural"], names["shortNames"]) == (LEASE_KIND, LEASE_PLURAL, ["gl"])
    assert SERVED["subresources"] == {"status": {}}


def test_its_columns_show_who_waits_and_until_when() -> None:
    """In this order; priority, turn and reason in the wide form."""
    columns = [(c["name"], c.get("priority", 0)) for c in SERVED["additionalPrinterColumns"]]
    narrow = [name for name, priority in columns if not priority]
    assert narrow == ["Group", "Memory", "State", "Position", "Expires", "Age"]
    assert [name for name, priority in columns if priority] == ["Priority", "Turn", "Reason"]


@pytest.mark.parametrize(("part", "kind"), [("spec", GPULeaseSpec), ("status", GPULeaseStatus)])
def test_fields_and_types_agree_with_the_structs(part: str, kind: type) -> None:
    """A field added to one of the two must be added to the other."""
    assert differences(kind, SCHEMA["properties"][part], part) == []


def test_every_field_has_a_text_for_kubectl_explain() -> None:
    """With a final dot."""
    without = {"", "apiVersion", "kind", "metadata", "metadata.name"}
    texts = {path: part.get("description", "") for path, part in parts(SCHEMA) if path not in without}
    assert [path for path, text in texts.items() if not text.endswith(".")] == []


def test_what_the_arbiter_writes_is_admitted_and_read_back() -> None:
    """Every field, without loss; and the defaults are those of the code."""
    stored = admitted(body() | {"status": STATUS})
    read = msgspec.convert(stored, GPULease)
    assert msgspec.json.decode(msgspec.json.encode(read.status)) == STATUS
    assert read.spec == GPULeaseSpec(group="card")


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"memoryMB": 0}, "memoryMB"),
        ({"priority": 1001}, "priority"),
        ({"priority": -1}, "priority"),
        ({"duration": "169h"}, "must be between 1s and 168h"),
        ({"duration": "0s"}, "must be between 1s and 168h"),
        ({"duration": "soon"}, "duration"),
        ({"group": ""}, "group"),
        ({"group": "x" * 64}, "group"),
    ],
)
def test_what_makes_no_sense_is_refused_by_the_crd_and_by_the_code(spec: Object, message: str) -> None:
    """The code reads objects of an older CRD."""
    with pytest.raises(ApiError, match=message):
        admitted(body(**spec))
    assert problem(msgspec.convert({"group": "card"} | spec, GPULeaseSpec))


@pytest.mark.parametrize(
    "spec", [{}, {"memoryMB": 8192, "priority": 0, "duration": "168h", "reason": "a game"}]
)
def test_what_makes_sense_is_accepted_by_both(spec: Object) -> None:
    """Also the bounds."""
    assert problem(msgspec.convert(admitted(body(**spec)), GPULease).spec) == ""


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({}, {"group": "other"}),
        ({"memoryMB": 8192}, {"memoryMB": 4096}),
        ({}, {"memoryMB": 4096}),
        ({"memoryMB": 8192}, {}),
        ({"priority": 5}, {"priority": 6}),
    ],
)
def test_what_memory_is_given_out_by_never_changes(before: Object, after: Object) -> None:
    """The message has the remedy."""
    old = admitted(body(**before))
    with pytest.raises(ApiError, match=r"is immutable, because .*; delete the lease and take another"):
        admitted(body(**({"priority": 1000} | after)), old)


def test_duration_and_reason_may_change() -> None:
    """A game may last longer."""
    old = admitted(body(duration="1h"))
    assert admitted(body(duration="3h", reason="a boss"), old)["spec"]["duration"] == "3h"


def test_every_reason_has_a_row_and_is_written() -> None:
    """By the arbiter; two of them are the end."""
    assert set(LEASE_FACTS) == set(LeaseReason)
    assert {LeaseReason.EXPIRED, LeaseReason.RELEASED} == ENDED
    source = (ROOT / "services" / "flexinfer" / "arbiter" / "leases.py").read_text()
    assert [reason for reason in LeaseReason if f"LeaseReason.{reason.name}" not in source] == []
