"""The built-in kinds and subresources of Kubernetes that are not served: each is refused by its name, with what takes its place here.

Discovery lists the kinds without verbs, so that kubectl knows where they are, sends a manifest of one and prints the refusal. Kinds that
neither Kubernetes nor a CustomResourceDefinition has are a plain 404, as on any server. Names, scopes and short names are those of
https://kubernetes.io/docs/reference/kubernetes-api/.
"""

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Final

from localkube.apiserver.errors import ApiError
from localkube.apiserver.resources import Resource

_CLUSTER: Final = "use --api real or a cluster"
_RUNS: Final = f"it runs Pods and Jobs; write one of these, or {_CLUSTER}"
_REACH: Final = (
    f"everything listens on this machine, at the addresses that its start printed; for others {_CLUSTER}"
)
_RIGHTS: Final = f"it has no RBAC, and a client with its token may do everything; to test rights {_CLUSTER}"
_REMEDIES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "": _CLUSTER,
        "admissionregistration.k8s.io": f"it admits by schemas and rules alone; {_CLUSTER}",
        "apiregistration.k8s.io": f"it aggregates no other API servers; {_CLUSTER}",
        "apps": _RUNS,
        "authentication.k8s.io": _RIGHTS,
        "authorization.k8s.io": _RIGHTS,
        "autoscaling": _RUNS,
        "batch": _RUNS,
        "certificates.k8s.io": _RIGHTS,
        "discovery.k8s.io": _REACH,
        "flowcontrol.apiserver.k8s.io": f"it answers every request at once; {_CLUSTER}",
        "metrics.k8s.io": "it measures nothing: the tools of the operating system show its processes; a cluster has metrics-server for it",
        "networking.k8s.io": _REACH,
        "node.k8s.io": f"its node runs processes, and has no container runtimes to choose from; {_CLUSTER}",
        "policy": f"each eviction is granted; {_CLUSTER}",
        "rbac.authorization.k8s.io": _RIGHTS,
        "resource.k8s.io": f"its node gives devices to Pods itself; {_CLUSTER}",
        "scheduling.k8s.io": f"its scheduler preempts no Pod; {_CLUSTER}",
        "storage.k8s.io": f"its volumes are folders of this machine; {_CLUSTER}",
    }
)
"""Group -> what takes the place of its kinds."""
_SPECIAL: Final[Mapping[str, str]] = MappingProxyType(
    {
        "componentstatuses": "`kubectl get --raw /readyz` tells whether it is healthy; it has no other components, as a cluster has",
        "endpoints": _REACH,
        "replicationcontrollers": _RUNS,
    }
)


def _kinds(group: str, version: str, *entries: str, namespaced: bool = True) -> Iterable[Resource]:
    """Yield resources without verbs; an entry is the kind, its plural and its short names."""
    for entry in entries:
        kind, plural, *short = entry.split()
        yield Resource(
            group,
            version,
            plural,
            kind,
            namespaced=namespaced,
            singular=kind.lower(),
            short_names=tuple(short),
            verbs=(),
        )


LISTED: Final[tuple[Resource, ...]] = (
    *_kinds("", "v1", "Endpoints endpoints ep", "ResourceQuota resourcequotas quota",
            "LimitRange limitranges limits", "ReplicationController replicationcontrollers rc", "PodTemplate podtemplates"),
    *_kinds("", "v1", "ComponentStatus componentstatuses cs", namespaced=False),
    *_kinds("admissionregistration.k8s.io", "v1", "ValidatingAdmissionPolicy validatingadmissionpolicies",
            "ValidatingAdmissionPolicyBinding validatingadmissionpolicybindings", "ValidatingWebhookConfiguration validatingwebhookconfigurations",
            "MutatingWebhookConfiguration mutatingwebhookconfigurations", namespaced=False),
    *_kinds("apiregistration.k8s.io", "v1", "APIService apiservices", namespaced=False),
    *_kinds("apps", "v1", "Deployment deployments deploy", "StatefulSet statefulsets sts", "DaemonSet daemonsets ds",
            "ReplicaSet replicasets rs", "ControllerRevision controllerrevisions"),
    *_kinds("autoscaling", "v2", "HorizontalPodAutoscaler horizontalpodautoscalers hpa"),
    *_kinds("batch", "v1", "CronJob cronjobs cj"),
    *_kinds("certificates.k8s.io", "v1", "CertificateSigningRequest certificatesigningrequests csr", namespaced=False),
    *_kinds("discovery.k8s.io", "v1", "EndpointSlice endpointslices"),
    *_kinds("flowcontrol.apiserver.k8s.io", "v1", "FlowSchema flowschemas", "PriorityLevelConfiguration prioritylevelconfigurations", namespaced=False),
    *_kinds("metrics.k8s.io", "v1beta1", "PodMetrics pods"),
    *_kinds("metrics.k8s.io", "v1beta1", "NodeMetrics nodes", namespaced=False),
    *_kinds("networking.k8s.io", "v1", "Ingress ingresses ing", "NetworkPolicy networkpolicies netpol"),
    *_kinds("networking.k8s.io", "v1", "IngressClass ingressclasses", namespaced=False),
    *_kinds("node.k8s.io", "v1", "RuntimeClass runtimeclasses", namespaced=False),
    *_kinds("policy", "v1", "PodDisruptionBudget poddisruptionbudgets pdb"),
    *_kinds("rbac.authorization.k8s.io", "v1", "Role roles", "RoleBinding rolebindings"),
    *_kinds("rbac.authorization.k8s.io", "v1", "ClusterRole clusterroles", "ClusterRoleBinding clusterrolebindings", namespaced=False),
    *_kinds("resource.k8s.io", "v1", "ResourceClaim resourceclaims", "ResourceClaimTemplate resourceclaimtemplates"),
    *_kinds("resource.k8s.io", "v1", "DeviceClass deviceclasses", "ResourceSlice resourceslices", namespaced=False),
    *_kinds("scheduling.k8s.io", "v1", "PriorityClass priorityclasses pc", namespaced=False),
    *_kinds("storage.k8s.io", "v1", "CSIDriver csidrivers", "CSINode csinodes", "VolumeAttachment volumeattachments", namespaced=False),
)  # fmt: skip
"""The kinds that manifests of users hold."""
_ASKED: Final[tuple[Resource, ...]] = (
    *_kinds("authorization.k8s.io", "v1", "SelfSubjectAccessReview selfsubjectaccessreviews", "SelfSubjectRulesReview selfsubjectrulesreviews",
            "SubjectAccessReview subjectaccessreviews", namespaced=False),
    *_kinds("authentication.k8s.io", "v1", "SelfSubjectReview selfsubjectreviews", "TokenReview tokenreviews", namespaced=False),
)  # fmt: skip
"""Kinds that programs ask for, which first look whether discovery has them."""
_NAMES: Final[Mapping[tuple[str, str], str]] = MappingProxyType(
    {(res.group, res.plural): res.kind for res in (*LISTED, *_ASKED)}
)
_WHO_AM_I: Final = "selfsubjectreviews"
_POD_PARTS: Final = MappingProxyType(
    {
        "exec": "its containers are processes of this machine, which its tools show",
        "attach": "its containers are processes of this machine; kubectl logs shows their output",
        "portforward": "its containers listen on this machine, at the address in status.podIP",
        "ephemeralcontainers": "its containers are processes of this machine, which its debuggers see",
    }
)


def refusal(group: str, plural: str, name: str, subresource: str) -> ApiError | None:
    """Return the 404 for what Kubernetes has and this server does not; None for what Kubernetes does not have either."""
    if (group, plural) == ("", "pods") and name and subresource in _POD_PARTS:
        return _not_served(group, plural, f"{subresource} of Pods", _POD_PARTS[subresource])
    if (group, plural, subresource) == ("", "serviceaccounts", "token"):
        return _not_served(
            group, plural, "tokens of ServiceAccounts", f"Pods run as the user who started it; {_CLUSTER}"
        )
    kind = _NAMES.get((group, plural))
    if kind is None:
        return None
    error = _not_served(group, plural, _several(kind, plural), _SPECIAL.get(plural, _REMEDIES[group]))
    # kubectl auth whoami has words of its own for a 404: that a feature gate is missing.
    return ApiError(405, "MethodNotAllowed", error.message, error.details) if plural == _WHO_AM_I else error


def _several(kind: str, plural: str) -> str:
    """Return the plural of a kind with its capitals: `NetworkPolicies`."""
    stem = kind[:-1]
    return f"{stem}{plural[len(stem) :]}" if plural.startswith(stem.lower()) else kind


def _not_served(group: str, plural: str, what: str, remedy: str) -> ApiError:
    details = {"group": group, "kind": plural} if group else {"kind": plural}
    return ApiError(404, "NotFound", f"the local API does not serve {what}: {remedy}", details)
