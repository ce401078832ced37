"""Whether Pods get GPUs: the RuntimeClasses that are named, and what each node with GPUs gives them by. Pure."""

from collections.abc import Iterator

from flexinfer.api.labels import GPU_RESOURCES, GPU_VENDOR_LABEL
from flexinfer.api.quantity import milli
from flexinfer.cli.preflight.objects import Node
from flexinfer.cli.preflight.view import MISSING, OK, WARNING, Finding, View, unread

_HOW = "docs/how-to/bind-a-gpu.md"
_SETTINGS = ("FLEXINFER_RUNTIME_CLASS", "FLEXINFER_RUNTIME_CLASS_NVIDIA", "FLEXINFER_RUNTIME_CLASS_AMD")


def runtime_classes(view: View) -> Iterator[Finding]:
    """Yield the RuntimeClasses that something names and that do not exist, or that no node can run."""
    origins = _named(view)
    if not origins or view.local:
        return
    if view.runtime_classes is None:
        yield unread("runtime-classes", "runtimeclasses")
        return
    handlers = {one.metadata.name: one.handler for one in view.runtime_classes}
    node_handlers = {handler.name for node in view.nodes or () for handler in node.status.runtime_handlers}
    wrong = False
    for name, origin in sorted(origins.items()):
        if name not in handlers:
            wrong = True
            yield Finding(
                "runtime-classes",
                MISSING,
                f"RuntimeClass {name} does not exist ({origin})",
                f"create it ({_HOW}), or correct the name",
            )
        elif node_handlers and handlers[name] not in node_handlers:
            wrong = True
            message = f"no node has the handler {handlers[name]} of RuntimeClass {name} ({origin})"
            yield Finding(
                "runtime-classes",
                MISSING,
                message,
                "install that container runtime on a node, and restart its containerd or k3s",
            )
    if not wrong:
        yield Finding("runtime-classes", OK, f"{', '.join(sorted(origins))} exist")


def _named(view: View) -> dict[str, str]:
    """Return RuntimeClass -> who names it."""
    origins = {view.settings[name]: f"setting {name}" for name in _SETTINGS if view.settings.get(name)}
    for model in view.models or ():
        if model.spec.runtime_class_name:
            origins.setdefault(model.spec.runtime_class_name, f"Model {model.key}")
    for workload in view.workloads or ():
        if name := workload.spec.template.spec.runtime_class_name:
            origins.setdefault(name, workload.metadata.name)
    return origins


def devices(view: View) -> Iterator[Finding]:
    """Yield, for each node with GPUs, by what Pods get them."""
    if view.nodes is None:
        yield unread("gpus", "nodes")
        return
    owners = [node for node in view.nodes if node.metadata.labels.get(GPU_VENDOR_LABEL) in GPU_RESOURCES]
    plugin_nodes = [
        node for node in view.nodes if node not in owners and any(_plugged(node, v) for v in GPU_RESOURCES)
    ]
    for node in owners:
        yield _of_node(view, node)
    for node in plugin_nodes:
        yield _of_plugin(view, node)
    if not owners and not plugin_nodes:
        users = [model.key for model in view.models or () if model.spec.devices]
        message = "no node has a GPU that the agent sees"
        status, effect = (
            (MISSING, f"; {len(users)} Models need one, such as {users[0]}")
            if users
            else (WARNING, ": Models with spec.gpu cannot be placed")
        )
        yield Finding("gpus", status, f"{message}{effect}", "docs/how-to/find-a-gpu.md")


def _of_plugin(view: View, node: Node) -> Finding:
    """Return what a device plugin without a report of the agent means; the agent of a local node labels none."""
    name = node.metadata.name
    if view.local:
        numbers = [f"{number} {GPU_RESOURCES[v]}" for v in GPU_RESOURCES if (number := _plugged(node, v))]
        return Finding("gpus", OK, f"{name}: device plugin ({', '.join(numbers)})")
    message = f"{name} has a device plugin, and the agent reports no GPU there"
    return Finding("gpus", WARNING, message, "flexinfer gpus; docs/how-to/find-a-gpu.md")


def _of_node(view: View, node: Node) -> Finding:
    vendor, name = node.metadata.labels[GPU_VENDOR_LABEL], node.metadata.name
    if ways := _ways(view, node, vendor):
        return Finding("gpus", OK, f"{name}: {vendor}, {' and '.join(ways)}")
    setting = f"FLEXINFER_RUNTIME_CLASS_{vendor.upper()}"
    message = f"{name} has {vendor} GPUs, and nothing gives them to Pods"
    return Finding(
        "gpus", MISSING, message, f"install {vendor}'s device plugin or DRA driver, or set {setting} ({_HOW})"
    )


def _ways(view: View, node: Node, vendor: str) -> list[str]:
    """Return by what a node gives its GPUs to Pods."""
    drivers = {one.spec.driver for one in view.slices or () if one.spec.node_name == node.metadata.name}
    runtime = view.settings.get(f"FLEXINFER_RUNTIME_CLASS_{vendor.upper()}", "")
    handlers = {handler.name for handler in node.status.runtime_handlers}
    number = _plugged(node, vendor)
    return [
        *(f"DRA driver {driver}" for driver in sorted(drivers)),
        *([f"device plugin ({number} {GPU_RESOURCES[vendor]})"] if number else []),
        *([f"RuntimeClass {runtime}"] if runtime and runtime in handlers else []),
    ]


def _plugged(node: Node, vendor: str) -> int:
    """Return how many GPUs a device plugin offers."""
    try:
        return milli(node.status.allocatable.get(GPU_RESOURCES[vendor], 0)) // 1000
    except ValueError:
        return 0
