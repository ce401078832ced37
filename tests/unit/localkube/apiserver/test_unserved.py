"""What Kubernetes has and the local API does not is refused by its name, and discovery leads kubectl to the refusal."""

import pytest

from localkube.apiserver.builtin_resources import builtin_registry
from localkube.apiserver.discovery import Discovery
from localkube.apiserver.errors import ApiError
from localkube.apiserver.routing import resolve
from localkube.apiserver.unserved import LISTED
from tests.unit.localkube.apiserver.test_discovery import AGGREGATED, document_at
from tests.unit.localkube.apiserver.test_tables import a_definition

REGISTRY = builtin_registry()
REFUSALS = [
    ("/apis/apps/v1/namespaces/a/deployments", "Deployments: it runs Pods and Jobs"),
    ("/apis/apps/v1/namespaces/a/deployments/web/scale", "Deployments: it runs"),
    ("/apis/batch/v1/cronjobs", "CronJobs: it runs Pods and Jobs"),
    ("/apis/networking.k8s.io/v1/ingresses", "Ingresses: everything listens on this machine"),
    ("/apis/networking.k8s.io/v1/namespaces/a/networkpolicies/p", "NetworkPolicies: "),
    ("/apis/policy/v1/poddisruptionbudgets", "PodDisruptionBudgets: each eviction is granted"),
    (
        "/api/v1/namespaces/a/serviceaccounts/default/token",
        "tokens of ServiceAccounts: Pods run as the user who started it",
    ),
    ("/api/v1/componentstatuses", "ComponentStatuses: `kubectl get --raw /readyz`"),
    ("/api/v1/namespaces/a/resourcequotas", "ResourceQuotas: use --api real or a cluster"),
    ("/apis/rbac.authorization.k8s.io/v1/clusterroles", "ClusterRoles: it has no RBAC"),
    ("/apis/node.k8s.io/v1/runtimeclasses/nvidia", "RuntimeClasses: its node runs processes"),
    ("/apis/metrics.k8s.io/v1beta1/pods", "PodMetrics: it measures nothing"),
    ("/api/v1/namespaces/a/pods/p/exec", "exec of Pods: its containers are processes"),
    ("/api/v1/namespaces/a/pods/p/portforward", "status.podIP"),
]


@pytest.mark.parametrize(("path", "says"), REFUSALS)
def test_a_kind_of_kubernetes_is_refused_by_its_name(path: str, says: str) -> None:
    """404, which programs that can do without a kind expect, with what takes its place."""
    with pytest.raises(ApiError) as refused:
        resolve(REGISTRY, path)
    assert (refused.value.code, refused.value.reason) == (404, "NotFound")
    assert refused.value.message.startswith("the local API does not serve ")
    assert says in refused.value.message


def test_who_am_i_is_refused_by_another_code() -> None:
    """Kubectl takes a 404 for a feature gate that is missing."""
    with pytest.raises(ApiError, match="does not serve SelfSubjectReviews: it has no RBAC") as refused:
        resolve(REGISTRY, "/apis/authentication.k8s.io/v1/selfsubjectreviews")
    assert refused.value.code == 405


@pytest.mark.parametrize("path", ["/api/v1/gates", "/apis/none.such/v1/things", "/apis/apps/v1/things"])
def test_what_kubernetes_does_not_have_either_is_a_plain_404(path: str) -> None:
    """In the words of any API server."""
    with pytest.raises(ApiError) as refused:
        resolve(REGISTRY, path)
    assert refused.value.message == "the server could not find the requested resource"


def test_every_listed_kind_is_refused_and_none_of_them_is_served() -> None:
    """The table of the served kinds and this one never meet."""
    for res in LISTED:
        assert REGISTRY.find(res.group, res.version, res.plural) is None
        root = f"/apis/{res.group}" if res.group else "/api"
        with pytest.raises(ApiError, match=r"the local API does not serve [A-Z].*: .*cluster"):
            resolve(REGISTRY, f"{root}/{res.version}/{res.plural}")


def test_discovery_lists_them_without_verbs() -> None:
    """So kubectl maps a manifest to its path, and `api-resources`, which shows what can be done, does not show them."""
    discovery = Discovery(builtin_registry())
    (apps,) = [item for item in document_at(discovery, "/apis", AGGREGATED)["items"] if item["metadata"]["name"] == "apps"]  # fmt: skip
    deployments = next(one for one in apps["versions"][0]["resources"] if one["resource"] == "deployments")
    assert (deployments["verbs"], deployments["shortNames"]) == ([], ["deploy"])
    assert deployments["responseKind"] == {"group": "apps", "version": "v1", "kind": "Deployment"}
    listed = {one["name"]: one["verbs"] for one in document_at(discovery, "/api/v1")["resources"]}
    assert listed["resourcequotas"] == [] and listed["pods"]


def test_no_schema_is_promised_for_a_group_that_is_only_listed() -> None:
    """Kubectl leaves the validation of such a manifest to the server."""
    paths = document_at(Discovery(builtin_registry()), "/openapi/v3")["paths"]
    assert "apis/batch/v1" in paths
    assert "apis/apps/v1" not in paths


def test_a_definition_of_the_user_wins_over_the_list() -> None:
    """A group that a CustomResourceDefinition brings is served."""
    registry = builtin_registry()
    registry.install(a_definition())
    names = {item["metadata"]["name"] for item in document_at(Discovery(registry), "/apis", AGGREGATED)["items"]}  # fmt: skip
    assert a_definition()["spec"]["group"] in names
