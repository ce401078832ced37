"""Reasons and components are in one table each; what is derived from them agrees with them."""

import ast
import importlib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import pytest

from flexinfer.api import conditions, reasons, status
from flexinfer.api.reasons import FACTS, Reason
from flexinfer.api.services import OWNERS, SERVICES, STATUS_FIELDS
from flexinfer.runtime.controller import Controller
from flexinfer.runtime.runtime import subscriptions_of
from flexinfer.runtime.settings import Settings

ROOT = Path(__file__).resolve().parents[2]
SOURCES = [p for root in ("shared", "services") for p in (ROOT / root).rglob("*.py")]
WRITERS = [p for p in SOURCES if {"services", "backends", "sources"} & set(p.relative_to(ROOT).parts)]
STATUSES: Mapping[str, type[status.OwnedStatus]] = {
    "watcher": status.AcceptedStatus,
    "placer": status.PlacedStatus,
    "prefetcher": status.CachedStatus,
    "reaper": status.WantedStatus,
    "arbiter": status.GrantedStatus,
    "launcher": status.ReadyStatus,
}


def test_every_condition_and_every_status_field_has_one_owner() -> None:
    """DESIGN 5: one writer per fact."""
    assert set(OWNERS) == set(conditions.CONDITIONS)
    fields = [field for owned in STATUS_FIELDS.values() for field in owned]
    assert len(fields) == len(set(fields))
    assert set(STATUS_FIELDS) == set(OWNERS.values())


@pytest.mark.parametrize("owner", STATUSES)
def test_an_owner_writes_the_fields_of_its_row(owner: str) -> None:
    """The struct that an owner's writes are made of has its condition and exactly these fields."""
    fields = [f for f in msgspec.structs.fields(STATUSES[owner]) if f.name not in status.OTHER_FIELDS]
    assert sorted(field.encode_name for field in fields) == sorted(SERVICES[owner].fields)


@pytest.mark.parametrize(
    "name", [name for name, row in SERVICES.items() if row.condition and name != "watcher"]
)
def test_a_controller_subscribes_to_what_its_row_says(name: str) -> None:
    """Subscriptions are not written twice."""
    controller: Controller[Any, Any, Any] = importlib.import_module(f"flexinfer.{name}.__main__").controller(
        Settings()
    )
    assert controller.name == name
    assert controller.subscriptions == subscriptions_of(SERVICES[name])


def test_every_component_has_a_row_and_every_row_a_component() -> None:
    """`credentials` runs once as a Job, `cli` is not a component."""
    folders = {p.parent.name for p in (ROOT / "services" / "flexinfer").glob("*/__main__.py")}
    assert folders - {"cli", "credentials", "local"} == set(SERVICES)


def test_every_reason_has_its_row() -> None:
    """A meaning for all, a remedy for each that a user can fix; a final reason is a warning too."""
    assert set(FACTS) == set(Reason)
    for reason, facts in FACTS.items():
        assert facts.meaning.endswith("."), reason
        assert facts.conditions, reason
        assert facts.remedy or not (facts.warning or facts.final or facts.rejects_requests), reason
        assert facts.warning or not facts.final, reason
        assert not (facts.stalled and not facts.loading), reason


def test_every_reason_is_written_by_a_component() -> None:
    """A reason that nothing writes is documentation of something that never happens."""
    text = "\n".join(p.read_text() for p in WRITERS)
    written = set(re.findall(r"\bReason\.([A-Z_]+)", text)) | {r.name for r in reasons.NOT_YET.values()}
    assert set(Reason.__members__) - written == set()


def test_no_module_keeps_its_own_set_of_reasons() -> None:
    """Sets of reasons are flags of the table; a module may name at most three together to tell cases apart."""
    for path in SOURCES:
        if path.name == "reasons.py":
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Set | ast.Tuple | ast.List):
                named = [e for e in node.elts if re.fullmatch(r"Reason\.[A-Z_]+", ast.unparse(e))]
                assert len(named) <= 4, f"{path.relative_to(ROOT)}:{node.lineno}"


def test_no_reason_is_spelled_as_text() -> None:
    """`Reason` members can be searched for; a string that is built from parts cannot."""
    values = {str(reason) for reason in Reason}
    for path in WRITERS:
        for node in ast.walk(ast.parse(path.read_text())):
            if (
                isinstance(node, ast.keyword)
                and node.arg == "reason"
                and isinstance(node.value, ast.Constant)
            ):
                assert node.value.value not in values, f"{path.relative_to(ROOT)}:{node.value.lineno}"
            if isinstance(node, ast.JoinedStr):
                assert not re.search(r"f'Not\{", ast.unparse(node)), f"{path.relative_to(ROOT)}:{node.lineno}"


def test_remedies_can_be_filled_in() -> None:
    """Only the Model's namespace and name are in them."""
    for reason in Reason:
        assert "{" not in reasons.remedy(reason, namespace="default", name="a")
    assert reasons.remedy("SomethingElse", namespace="default", name="a") == ""
