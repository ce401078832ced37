"""The CRD of the SharedGroup: its columns and rules, and that its structs say the same."""

from typing import Any

import msgspec
import pytest

from flexinfer.api import conditions
from flexinfer.api.group_reasons import GROUP_FACTS, GroupReason
from flexinfer.api.groupversion import GROUP, GROUP_KIND, GROUP_PLURAL, VERSION
from flexinfer.api.sharedgroup import (
    BLOCKED,
    GRANTED,
    INITIALIZED,
    RELEASING,
    STOPPED,
    SharedGroup,
    SharedGroupSpec,
    SharedGroupStatus,
)
from localkube.apiserver.errors import ApiError
from localkube.apiserver.resources import Object
from tests.contract.test_crd import parts
from tests.contract.test_crd_and_structs import differences
from tests.definitions import ROOT, a_registry, the_group_crd

SERVED: Object = the_group_crd()["spec"]["versions"][0]
SCHEMA: Object = SERVED["schema"]["openAPIV3Schema"]
HOLDER: Object = {
    "model": "coder",
    "uid": "6f1a",
    "turn": 40,
    "step": "Releasing",
    "node": "box",
    "devices": [
        {
            "uuid": "GPU-1f",
            "memoryMB": 14336,
            "usedBeforeMB": 600,
            "otherProcesses": [{"pid": 99, "name": "Xorg"}],
        }
    ],
    "reason": "idle",
    "since": "2026-11-01T00:00:00Z",
}
CONDITION: Object = {
    "type": "Blocked",
    "status": "False",
    "reason": "NotBlocked",
    "message": "",
    "lastTransitionTime": "2026-11-01T00:00:00Z",
    "observedGeneration": 1,
}
STATUS: Object = {
    "observedGeneration": 1,
    "turn": 41,
    "node": "box",
    "devices": [{"uuid": "GPU-1f", "totalMB": 24564}],
    "holders": [HOLDER],
    "heldMB": 14336,
    "budgetMB": 24564,
    "conditions": [CONDITION],
}


def body(group: str = "homelab-gpu", **parts_: Any) -> Object:
    """Return a SharedGroup."""
    meta = {"name": "homelab-gpu", "namespace": "default"}
    version = f"{GROUP}/{VERSION}"
    return {"apiVersion": version, "kind": GROUP_KIND, "metadata": meta, "spec": {"group": group}, **parts_}


def admitted(new: Object, old: Object | None = None) -> Object:
    """Return a SharedGroup as it is stored. Raises ApiError if it is refused."""
    registry = a_registry()
    kind = registry.find(GROUP, VERSION, GROUP_PLURAL)
    assert kind is not None
    stored: Object = registry.admit(kind, new, old, validation="Strict").obj
    return stored


def test_it_is_found_by_the_names_that_the_code_and_the_documentation_use() -> None:
    """`kubectl get sgrp`, its status apart from its spec."""
    names = the_group_crd()["spec"]["names"]
    assert (names["kind"], names["plural"], names["shortNames"]) == (GROUP_KIND, GROUP_PLURAL, ["sgrp"])
    assert SERVED["name"] == VERSION
    assert SERVED["subresources"] == {"status": {}}


def test_its_columns_show_who_holds_what() -> None:
    """In this order; turn and block in the wide form."""
    columns = [(c["name"], c.get("priority", 0)) for c in SERVED["additionalPrinterColumns"]]
    narrow = [name for name, priority in columns if not priority]
    assert narrow == ["Node", "Mode", "Held", "Budget", "Holders", "Age"]
    assert [name for name, priority in columns if priority] == ["Turn", "Blocked"]


@pytest.mark.parametrize(("part", "kind"), [("spec", SharedGroupSpec), ("status", SharedGroupStatus)])
def test_fields_and_types_agree_with_the_structs(part: str, kind: type) -> None:
    """A field added to one of the two must be added to the other."""
    assert differences(kind, SCHEMA["properties"][part], part) == []


def test_every_field_has_a_text_for_kubectl_explain() -> None:
    """With a final dot."""
    without = {"", "apiVersion", "kind", "metadata"}
    texts = {path: part.get("description", "") for path, part in parts(SCHEMA) if path not in without}
    assert [path for path, text in texts.items() if not text.endswith(".")] == []


def test_what_the_arbiter_writes_is_admitted_and_read_back() -> None:
    """Every field, without loss."""
    stored = admitted(body(status=STATUS))
    assert stored["status"] == STATUS
    read = msgspec.convert(stored, SharedGroup)
    assert msgspec.json.decode(msgspec.json.encode(read.status)) == STATUS


def test_a_holder_of_another_step_is_refused() -> None:
    """The three that are stored are those of the code."""
    steps = SCHEMA["properties"]["status"]["properties"]["holders"]["items"]["properties"]["step"]["enum"]
    assert steps == [GRANTED, RELEASING, STOPPED]


def test_two_entries_of_one_model_are_refused() -> None:
    """One entry a uid: no Model is granted again before its former entry is gone."""
    with pytest.raises(ApiError, match="Duplicate value"):
        admitted(body(status=STATUS | {"holders": [HOLDER, HOLDER | {"turn": 41}]}))


@pytest.mark.parametrize("names", [{}, {"model": "coder", "lease": "game"}])
def test_an_entry_that_is_not_of_one_model_or_one_lease_is_refused(names: Object) -> None:
    """Of a lease it has the name of that alone."""
    rest = {key: value for key, value in HOLDER.items() if key != "model"}
    with pytest.raises(ApiError, match="must name either a model or a lease"):
        admitted(body(status=STATUS | {"holders": [rest | names]}))
    stored = admitted(body(status=STATUS | {"holders": [rest | {"lease": "game"}]}))
    assert msgspec.convert(stored, SharedGroup).status.holders[0].label == "lease game"


def test_the_group_of_an_object_never_changes() -> None:
    """Its name is derived from it; the message has the remedy."""
    with pytest.raises(ApiError, match=r"is immutable, because the object is named after it; create"):
        admitted(body("other"), admitted(body()))


@pytest.mark.parametrize("group", ["", "x" * 64])
def test_a_group_that_no_model_can_name_is_refused(group: str) -> None:
    """The bounds are those of `spec.gpu.shared`."""
    with pytest.raises(ApiError):
        admitted(body(group))


def test_every_reason_has_a_row() -> None:
    """For one of the three conditions."""
    assert set(GROUP_FACTS) == set(GroupReason)
    assert {facts.condition for facts in GROUP_FACTS.values()} == {conditions.ACCEPTED, INITIALIZED, BLOCKED}


@pytest.mark.parametrize("reason", GroupReason)
def test_every_reason_is_written(reason: GroupReason) -> None:
    """By the arbiter."""
    files = (ROOT / "services" / "flexinfer" / "arbiter").glob("*.py")
    assert any(f"GroupReason.{reason.name}" in path.read_text() for path in files)
