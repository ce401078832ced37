"""Manifests that are applied again with another image or setting, as by a user whose first image could not be pulled."""

import copy
from collections.abc import Iterator

import pytest

from tests.cluster.installed import SYSTEM, Kubectl, text
from tests.manifests import WORKLOADS, Object, objects


def workloads(change: str) -> list[Object]:
    """Return what runs, at no replicas, with another image and another ConfigMap of the settings."""
    changed = []
    for one in objects("base"):
        if one["kind"] not in WORKLOADS:
            continue
        made = copy.deepcopy(one)
        made["spec"] |= {"replicas": 0} if "replicas" in made["spec"] else {}
        for container in made["spec"]["template"]["spec"]["containers"]:
            container["image"] += change
            for source in container.get("envFrom", ()):
                source["configMapRef"]["name"] += change
        changed.append(made)
    return changed


@pytest.fixture
def applied(installed: Kubectl) -> Iterator[Kubectl]:
    """A kubectl on a control plane to which everything was applied once."""
    first = text(*workloads(""))
    installed.accepted("apply", "-f", "-", stdin=first)
    yield installed
    installed.accepted("delete", "-f", "-", "--wait=false", stdin=first)


def test_another_image_and_setting_are_accepted_at_once(applied: Kubectl) -> None:
    """Nothing has run meanwhile: no image of the first could be pulled. Server-side too."""
    for number, words in enumerate((("apply",), ("apply", "--server-side", "--force-conflicts"))):
        said = applied.accepted(*words, "-f", "-", stdin=text(*workloads(f"-{number}")))
        assert "deployment.apps/flexinfer-credentials" in said
    image = "jsonpath={.spec.template.spec.containers[0].image}"
    got = applied.accepted("get", "deployment", "flexinfer-credentials", "-n", SYSTEM, "-o", image)
    assert got.endswith("-1")


def test_nothing_that_is_applied_has_a_template_that_cannot_be_changed() -> None:
    """A Job has: it is refused with `field is immutable` while it waits for an image, and until it is deleted."""
    assert "Job" not in {one["kind"] for one in objects("base")}
