"""Whether images are available: what a kubelet said of each, which nodes have them, and the Secrets that pull them. Pure."""

from collections.abc import Iterator

from flexinfer.api import conditions
from flexinfer.api.reasons import Reason
from flexinfer.cli.preflight.objects import Container, ContainerStatus, Pod
from flexinfer.cli.preflight.view import MISSING, OK, UNKNOWN, Finding, View

NOT_PULLED = ("ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull")
UNPUBLISHED = "ghcr.io/flexinfer/"
"""Where a release will be; nothing is there yet."""
_HOW = "docs/how-to/images.md"
_SHOWN = 3


def waiting(pod: Pod) -> str:
    """Return what a container of a Pod waits for, in one word; empty for none."""
    return next(
        (state.reason for status in _statuses(pod) if (state := status.state.waiting) and state.reason), ""
    )


def images(view: View) -> Iterator[Finding]:
    """Yield what is wrong with images, or that nothing is."""
    if view.local:
        yield from _programs(view)
        return
    refusals = _refused(view)
    absent = [image for image in _absent(view) if image not in refusals]
    for image, words in sorted(refusals.items()):
        yield Finding(
            "images",
            MISSING,
            f"{image} cannot be pulled: {words}",
            f"push it, or correct name and pull Secret ({_HOW})",
        )
    if absent:
        message = f"no node has {', '.join(absent[:_SHOWN])}, and no image of FlexInfer is published at {UNPUBLISHED.rstrip('/')}"
        yield Finding(
            "images",
            MISSING,
            message,
            f"make images, push them, and name your registry in overlay or chart ({_HOW})",
        )
    if not refusals and not absent:
        yield Finding("images", OK, f"{len(_needed(view))} named by components, none refused by a registry")


def _programs(view: View) -> Iterator[Finding]:
    """Yield the programs that a local node runs in place of images, and does not have."""
    ready = {model.key: model.condition(conditions.READY) for model in view.models or ()}
    without = {
        key: one.message for key, one in ready.items() if one and one.reason == Reason.ENGINE_NOT_INSTALLED
    }
    for key, message in sorted(without.items()):
        yield Finding(
            "images",
            MISSING,
            f"{key}: {message}",
            "install that program, or choose another backend (docs/reference/backends.md)",
        )
    if not without:
        yield Finding("images", OK, "the local node runs programs of this machine; no Model lacks one")


def _refused(view: View) -> dict[str, str]:
    """Return image -> what its registry or the kubelet said, of Pods that cannot be started for it."""
    return {
        _image(pod, status): state.message or state.reason
        for pod in view.pods or ()
        for status in _statuses(pod)
        if (state := status.state.waiting) and state.reason in NOT_PULLED
    }


def _image(pod: Pod, status: ContainerStatus) -> str:
    """Return the image as the spec names it; a container that never ran has no other name for it."""
    images = {one.name: one.image for one in _containers(pod)}
    return images.get(status.name) or status.image


def _absent(view: View) -> list[str]:
    """Return the unpublished images that no node has; a node that lists none is not counted as evidence."""
    images = [image for node in view.nodes or () for image in node.status.images]
    if not images:
        return []
    present = {name for image in images for name in image.names}
    return sorted(image for image in _needed(view) if image.startswith(UNPUBLISHED) and image not in present)


def _needed(view: View) -> set[str]:
    """Return the images of the components' containers, and those that they give to Jobs."""
    containers = [one for workload in view.workloads or () for one in workload.spec.template.spec.containers]
    jobs = {
        variable.value for one in containers for variable in one.env if variable.name == "FLEXINFER_IMAGE"
    }
    return {one.image for one in containers} | jobs


def secrets(view: View) -> Iterator[Finding]:
    """Yield the pull Secrets of Models that do not exist."""
    for (namespace, name), exists in sorted(view.secrets.items()):
        if exists is False:
            remedy = (
                f"kubectl create secret docker-registry {name} -n {namespace} --docker-server=... ({_HOW})"
            )
            yield Finding(
                "pull-secrets", MISSING, f"Secret {name} is missing in namespace {namespace}", remedy
            )
        elif exists is None:
            yield Finding(
                "pull-secrets",
                UNKNOWN,
                f"this user may not read Secret {name} in namespace {namespace}",
                f"kubectl auth can-i get secrets -n {namespace}",
            )
    if view.secrets and all(view.secrets.values()):
        yield Finding("pull-secrets", OK, f"{len(view.secrets)} named by settings and Models, all exist")


def _containers(pod: Pod) -> tuple[Container, ...]:
    return (*pod.spec.init_containers, *pod.spec.containers)


def _statuses(pod: Pod) -> tuple[ContainerStatus, ...]:
    return (*pod.status.init_container_statuses, *pod.status.container_statuses)
