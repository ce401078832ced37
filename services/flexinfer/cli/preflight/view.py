"""What is known of a cluster when it is checked, and what a check says of it. Pure."""

from collections.abc import Mapping, Sequence

import msgspec

from flexinfer.api.installation import SYSTEM_NAMESPACE
from flexinfer.api.kube import Claim, StorageClass
from flexinfer.api.model import Model
from flexinfer.api.resource_api import ResourceSlice
from flexinfer.cli.preflight import objects

OK, WARNING, MISSING, UNKNOWN = "ok", "warning", "missing", "unknown"


class Finding(msgspec.Struct, frozen=True):
    """What a check says: `status` is ok, warning, missing or unknown, and `remedy` what to do unless it is ok."""

    check: str
    status: str
    message: str
    remedy: str = ""


def unread(check: str, plural: str) -> Finding:
    """Return that a check needs objects which this user may not list."""
    return Finding(check, UNKNOWN, f"this user may not list {plural}", f"kubectl auth can-i list {plural}")


class ProcessState(msgspec.Struct, frozen=True):
    """A process of a local instance: `state` is healthy, not ready or down."""

    name: str
    state: str
    reason: str = ""


class View(msgspec.Struct, frozen=True, kw_only=True):
    """A cluster, or a local instance. A kind that this user may not list is None.

    `local`: the components are `processes` of an instance on this machine, and no workloads. `rights`: what this user may
    not do with Models; None where the API server has no rights. `secrets`: pull Secret as (namespace, name) -> whether it
    exists, None if that may not be read.
    """

    namespace: str = "default"
    local: bool = False
    processes: Sequence[ProcessState] = ()
    unwritable: str = ""
    """Why nothing can be written into the state folder of the instance, with the folder; empty: it can be."""
    rights: Sequence[str] | None = ()
    definitions: Sequence[objects.Definition] | None = ()
    storage_classes: Sequence[StorageClass] | None = ()
    runtime_classes: Sequence[objects.RuntimeClass] | None = ()
    nodes: Sequence[objects.Node] | None = ()
    slices: Sequence[ResourceSlice] | None = ()
    models: Sequence[Model] | None = ()
    claims: Sequence[Claim] | None = ()
    workloads: Sequence[objects.Workload] | None = ()
    pods: Sequence[objects.Pod] | None = ()
    config_maps: Sequence[objects.ConfigMap] | None = ()
    secrets: Mapping[tuple[str, str], bool | None] = {}

    @property
    def settings(self) -> Mapping[str, str]:
        """The settings of the components: of the ConfigMap that their containers read."""
        names = {
            source.config_map_ref.name
            for workload in self.workloads or ()
            for container in workload.spec.template.spec.containers
            for source in container.env_from
        }
        maps = [one.data for one in self.config_maps or () if one.metadata.name in names]
        return {name: value for data in maps for name, value in data.items()}

    @property
    def system_pods(self) -> Sequence[objects.Pod]:
        """The Pods of the components."""
        return [pod for pod in self.pods or () if pod.metadata.namespace == SYSTEM_NAMESPACE]


def pull_secrets(
    models: Sequence[Model], settings: Mapping[str, str], namespace: str
) -> set[tuple[str, str]]:
    """Return the pull Secrets that Models need, as (namespace, name); those of the settings also where the next Model may be."""
    defaults = [
        name.strip() for name in settings.get("FLEXINFER_PULL_SECRETS", "").split(",") if name.strip()
    ]
    secrets = {(namespace, name) for name in defaults}
    for model in models:
        own = [secret.name for secret in model.spec.image_pull_secrets]
        secrets |= {(model.metadata.namespace, name) for name in own or defaults}
    return secrets
