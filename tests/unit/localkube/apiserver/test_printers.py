"""How built-in kinds are printed."""

from datetime import UTC, datetime
from typing import Any

import pytest

from localkube.apiserver.printers import PRINTERS

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
BORN = "2026-11-24T11:59:00Z"


def printed(kind: str, *, group: str = "", meta: dict[str, Any] | None = None, **fields: Any) -> list[Any]:
    """Return the cells of an object made of fields."""
    metadata = {"name": "x", "namespace": "default", "creationTimestamp": BORN} | (meta or {})
    return PRINTERS[(group, kind)].cells({"metadata": metadata} | fields, NOW)


@pytest.mark.parametrize("key", PRINTERS, ids=lambda key: f"{key[0]}/{key[1]}")
def test_every_kind_has_a_cell_for_every_column(key: tuple[str, str]) -> None:
    """Also for an object that says nothing at all."""
    printer = PRINTERS[key]
    assert len(printer.cells({"metadata": {"name": "x"}}, NOW)) == len(printer.columns)


def pod(status: dict[str, Any], **metadata: Any) -> list[Any]:
    """Return READY, STATUS and RESTARTS of a Pod with one container."""
    return printed("Pod", meta=metadata, spec={"containers": [{"name": "c"}]}, status=status)[1:4]


@pytest.mark.parametrize(
    ("status", "cells"),
    [
        pytest.param({"phase": "Pending"}, ["0/1", "Pending", "0"], id="not yet seen"),
        pytest.param(
            {"phase": "Pending", "conditions": [{"type": "PodScheduled", "reason": "SchedulingGated"}]},
            ["0/1", "SchedulingGated", "0"],
            id="gated",
        ),
        pytest.param(
            {
                "phase": "Running",
                "containerStatuses": [{"name": "c", "ready": True, "state": {"running": {}}}],
            },
            ["1/1", "Running", "0"],
            id="running",
        ),
        pytest.param(
            {
                "phase": "Running",
                "containerStatuses": [
                    {
                        "name": "c",
                        "ready": False,
                        "restartCount": 3,
                        "state": {"waiting": {"reason": "CrashLoopBackOff"}},
                        "lastState": {"terminated": {"finishedAt": "2026-11-24T11:59:30Z"}},
                    }
                ],
            },
            ["0/1", "CrashLoopBackOff", "3 (30s ago)"],
            id="crash loop",
        ),
        pytest.param(
            {
                "phase": "Succeeded",
                "containerStatuses": [{"state": {"terminated": {"exitCode": 0, "reason": "Completed"}}}],
            },
            ["0/1", "Completed", "0"],
            id="done",
        ),
        pytest.param(
            {"phase": "Failed", "containerStatuses": [{"state": {"terminated": {"exitCode": 7}}}]},
            ["0/1", "ExitCode:7", "0"],
            id="failed without a reason",
        ),
        pytest.param(
            {
                "phase": "Pending",
                "initContainerStatuses": [{"state": {"waiting": {"reason": "ErrImagePull"}}}],
            },
            ["0/1", "Init:ErrImagePull", "0"],
            id="init waits",
        ),
    ],
)
def test_the_status_column_of_a_pod(status: dict[str, Any], cells: list[str]) -> None:
    """As a real API server prints it."""
    assert pod(status) == cells


def test_a_pod_that_is_being_deleted_is_terminating() -> None:
    """Whatever the state of its containers."""
    assert pod({"phase": "Running"}, deletionTimestamp=BORN)[1] == "Terminating"


def test_a_bound_claim_shows_its_volume() -> None:
    """An unbound one has no capacity."""
    spec = {"storageClassName": "flexinfer-local", "volumeName": "pv", "volumeMode": "Filesystem"}
    status = {"phase": "Bound", "accessModes": ["ReadWriteOnce"], "capacity": {"storage": "100Gi"}}
    bound = printed("PersistentVolumeClaim", spec=spec, status=status)
    open_ = printed("PersistentVolumeClaim", spec=spec | {"volumeName": ""}, status={"phase": "Pending"})
    assert bound[1:6] == ["Bound", "pv", "100Gi", "RWO", "flexinfer-local"]
    assert open_[1:6] == ["Pending", "", "", "", "flexinfer-local"]


def test_the_columns_of_an_event() -> None:
    """The row of `kubectl get events`."""
    cells = printed(
        "Event",
        type="Normal",
        reason="Loaded",
        message="the engine answers\n",
        involvedObject={"kind": "Model", "name": "smollm2"},
        lastTimestamp=BORN,
        count=2,
    )
    assert cells[:4] == ["60s", "Normal", "Loaded", "model/smollm2"]
    assert cells[6] == "the engine answers"


def test_the_columns_of_a_job() -> None:
    """Status, completions and duration."""
    job = printed(
        "Job",
        group="batch",
        spec={"completions": 1},
        status={"succeeded": 1, "startTime": BORN, "completionTime": "2026-11-24T11:59:05Z"}
        | {"conditions": [{"type": "Complete", "status": "True"}]},
    )
    assert job[1:4] == ["Complete", "1/1", "5s"]
