"""Namespaces and definitions go with what is in them."""

import pytest

from localkube.apiserver.requests import DeleteOptions
from localkube.controllers.content_deletion import CRDFinalizer, NamespaceController
from tests.controllers import run_until_quiet
from tests.unit.localkube.apiserver.stage import Stage, a_pod, a_widget


@pytest.fixture
def stage() -> Stage:
    """Return a store."""
    return Stage()


def test_a_namespace_goes_with_its_contents(stage: Stage) -> None:
    """Terminating first, then empty, then gone; others keep theirs."""
    controller = NamespaceController(stage.store, lambda: stage.now)
    events = stage.watch("namespaces")
    for namespace in ("default", "other"):
        stage.store.create(stage.res("widgets"), namespace, a_widget())
        stage.store.create(stage.res("pods"), namespace, a_pod())
    stage.delete("namespaces", "other")
    run_until_quiet([controller])
    assert (stage.names("namespaces"), stage.names("widgets"), stage.names("pods")) == (
        ["default"],
        ["w"],
        ["p"],
    )
    assert [(event.type, event.obj["status"]["phase"]) for event in events] == [
        ("MODIFIED", "Terminating"),
        ("DELETED", "Terminating"),
    ]


def test_a_namespace_waits_for_what_somebody_must_let_go(stage: Stage) -> None:
    """A finalizer and a Pod on a node keep it; it goes when they do."""
    controller = NamespaceController(stage.store, lambda: stage.now)
    held = a_widget()
    held["metadata"]["finalizers"] = ["a/b"]
    widgets, pods = stage.res("widgets"), stage.res("pods")
    stage.store.create(widgets, "other", held)
    stage.store.create(pods, "other", a_pod(nodeName="n1"))
    stage.delete("namespaces", "other")
    run_until_quiet([controller])
    waiting = stage.names("namespaces")
    (widget,) = stage.store.list(widgets, "other").items
    freed = {**widget, "metadata": {**widget["metadata"], "finalizers": []}}
    stage.store.update(widgets, "other", "w", freed)
    run_until_quiet([controller])
    still = stage.names("namespaces")
    stage.store.delete(pods, "other", "p", DeleteOptions(grace_seconds=0))
    run_until_quiet([controller])
    assert (waiting, still, stage.names("namespaces")) == (["default", "other"], waiting, ["default"])


def test_a_controller_that_starts_late_finds_what_is_terminating(stage: Stage) -> None:
    """What was asked for before it started is done too."""
    stage.delete("namespaces", "other")
    run_until_quiet([NamespaceController(stage.store, lambda: stage.now)])
    assert stage.names("namespaces") == ["default"]


def test_a_definition_goes_with_its_objects(stage: Stage) -> None:
    """The objects first, then the definition, then the resource is offered no more."""
    controller = CRDFinalizer(stage.store)
    events = stage.watch("widgets")
    stage.create("widgets", a_widget())
    stage.delete("customresourcedefinitions", "widgets.example.org")
    run_until_quiet([controller])
    assert [event.type for event in events] == ["ADDED", "DELETED"]
    assert stage.names("customresourcedefinitions") == []
    assert not [res for res in stage.registry.resources() if res.plural == "widgets"]


def test_a_definition_waits_for_an_object_with_a_finalizer(stage: Stage) -> None:
    """It goes with the last of its objects."""
    controller = CRDFinalizer(stage.store)
    held = a_widget()
    held["metadata"]["finalizers"] = ["a/b"]
    stage.create("widgets", held)
    stage.delete("customresourcedefinitions", "widgets.example.org")
    run_until_quiet([controller])
    waiting = stage.names("customresourcedefinitions")
    stage.merge("widgets", "w", {"metadata": {"finalizers": None}})
    run_until_quiet([controller])
    assert (waiting, stage.names("customresourcedefinitions")) == (["widgets.example.org"], [])
