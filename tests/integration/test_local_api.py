"""The process of the local API over HTTP: durability, termination, limits, and logs from a node."""

import asyncio
import json
import resource
import signal
import time
import urllib.error
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from flexinfer.local.tls import tls_files
from localkube import tls
from tests.apiserver import TOKEN, LocalApi, Stream, kill_local_api, start_local_api
from tests.kubectl import Kubectl
from tests.ports import free_port

pytestmark = pytest.mark.integration
MAPS = "/api/v1/namespaces/default/configmaps"


@pytest.fixture
def own_api(tmp_path: Path) -> Iterator[LocalApi]:
    """Start a local API that a test may kill, and start again on its port."""
    api = start_local_api(tmp_path / "state", free_port())
    yield api
    kill_local_api(api)


def a_map(name: str, **data: str) -> dict[str, Any]:
    """Return a ConfigMap."""
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data}


def create(api: LocalApi, name: str, **data: str) -> dict[str, Any]:
    """Create a ConfigMap."""
    created: dict[str, Any] = json.loads(api.open(MAPS, method="POST", body=a_map(name, **data)))
    return created


def refusal(call: Callable[[], object]) -> dict[str, Any]:
    """Return the Status of a refused request."""
    with pytest.raises(urllib.error.HTTPError) as refused:
        call()
    with refused.value as answer:
        status: dict[str, Any] = json.loads(answer.read())
    assert status["kind"] == "Status"
    assert status["code"] == refused.value.code
    return status


def test_acknowledged_writes_survive_a_kill(own_api: LocalApi) -> None:
    """With uid and resourceVersion, and a watch continues from that version."""
    created = create(own_api, "kept", a="b")
    own_api.stop(signal.SIGKILL)
    again = start_local_api(own_api.state, own_api.port)
    try:
        assert json.loads(again.open(f"{MAPS}/kept")) == created
        version = created["metadata"]["resourceVersion"]
        with Stream(again, f"{MAPS}?watch=true&resourceVersion={version}") as stream:
            create(again, "later")
            event = stream.next()
            assert (event["type"], event["object"]["metadata"]["name"]) == ("ADDED", "later")
    finally:
        kill_local_api(again)


def test_sigterm_ends_watches_cleanly_and_at_once(own_api: LocalApi) -> None:
    """Exit code 0; the stream ends without an error."""
    with Stream(own_api, f"{MAPS}?watch=True&fieldSelector=metadata.name=one") as stream:
        create(own_api, "one")
        assert stream.next()["type"] == "ADDED"
        assert own_api.stop() == 0
        assert stream.next() == {}


def settled_size(file: Path) -> int:
    """Return the size of a file once it stops growing: the controllers have created the writes of a start."""
    size = -1
    while size != (size := file.stat().st_size):
        time.sleep(0.3)
    return size


def test_a_journal_that_finds_no_room_rejects_writes_until_there_is_some(own_api: LocalApi) -> None:
    """A write that is not on disk is not acknowledged; reads continue, and so does the process."""
    size = settled_size(own_api.state / "api.journal")
    _, hard = resource.prlimit(own_api.process.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(own_api.process.pid, resource.RLIMIT_FSIZE, (size + 10, hard))
    status = refusal(lambda: create(own_api, "lost"))
    assert (status["code"], status["reason"]) == (507, "InsufficientStorage")
    assert "api.journal cannot be written" in status["message"]
    assert refusal(lambda: own_api.open(f"{MAPS}/lost"))["code"] == 404
    resource.prlimit(own_api.process.pid, resource.RLIMIT_FSIZE, (hard, hard))
    create(own_api, "kept")
    assert own_api.stop() == 0


def test_a_second_process_on_the_same_journal_is_refused(local_api: LocalApi, tmp_path: Path) -> None:
    """Two writers would corrupt it."""
    with pytest.raises(AssertionError, match="journal"):
        start_local_api(local_api.state)
    (local_api.state / "port").write_text(str(local_api.port))


def test_only_health_is_readable_without_the_token(local_api: LocalApi) -> None:
    """Any other path is 401."""
    assert [local_api.open(path, Authorization="") for path in ("/healthz", "/livez", "/readyz")] == [
        b"ok"
    ] * 3
    for path in ("/", "/api", "/version", "/openapi/v3", MAPS):
        status = refusal(lambda path=path: local_api.open(path, Authorization="Bearer wrong"))  # type: ignore[misc]
        assert (status["code"], status["message"]) == (401, "Unauthorized")


@pytest.mark.parametrize(
    ("method", "path", "code"),
    [
        ("GET", "/apis/apps/v1/deployments", 404),
        ("GET", "/api/v1/namespaces/default/pods/p/exec", 404),
        ("GET", f"{MAPS}/absent", 404),
        ("POST", f"{MAPS}/absent", 405),
        ("GET", f"{MAPS}?limit=many", 400),
        ("GET", f"{MAPS}?labelSelector=((", 400),
        ("GET", f"{MAPS}?resourceVersion=999999", 504),
        ("GET", f"{MAPS}?watch=1&sendInitialEvents=true", 422),
        ("GET", f"{MAPS}?continue=nonsense", 400),
    ],
)
def test_an_unsupported_or_invalid_request_is_answered_with_a_status(
    local_api: LocalApi, method: str, path: str, code: int
) -> None:
    """Never with a traceback, and without a hang."""
    assert refusal(lambda: local_api.open(path, method=method))["code"] == code


def test_bodies_are_limited_in_size_and_type(local_api: LocalApi) -> None:
    """413, 415 and 400, and the server continues."""
    huge = a_map("huge", a="x" * (3 * 1024 * 1024))
    assert refusal(lambda: local_api.open(MAPS, method="POST", body=huge))["code"] == 413
    typed = {"Content-Type": "text/plain"}
    assert refusal(lambda: local_api.open(MAPS, method="POST", body={}, **typed))["code"] == 415
    assert refusal(lambda: local_api.open(MAPS, method="POST", body=[1]))["code"] == 400
    strategic = {"Content-Type": "application/strategic-merge-patch+json"}
    model = "/apis/ai.flexinfer/v1alpha2/namespaces/default/models/x"
    assert refusal(lambda: local_api.open(model, method="PATCH", body={}, **strategic))["code"] == 415


def test_a_large_list_is_paged(local_api: LocalApi, kubectl: Kubectl) -> None:
    """Each page has the same resourceVersion and remainingItemCount; `kube-root-ca.crt` is the first by name, and comes back."""
    path = f"/api/v1/namespaces/{kubectl.namespace}/configmaps"
    for number in range(5):
        local_api.open(path, method="POST", body=a_map(f"m{number}"))
    first = json.loads(local_api.open(f"{path}?limit=3"))
    local_api.open(path, method="POST", body=a_map("m9"))
    rest = json.loads(local_api.open(f"{path}?limit=9&continue={first['metadata']['continue']}"))
    assert first["metadata"]["remainingItemCount"] == 3
    assert rest["metadata"]["resourceVersion"] == first["metadata"]["resourceVersion"]
    assert [item["metadata"]["name"] for item in rest["items"]] == ["m2", "m3", "m4"]
    local_api.open(path, method="DELETE", body=None)
    left = {item["metadata"]["name"] for item in json.loads(local_api.open(path))["items"]}
    assert left <= {"kube-root-ca.crt"}


def test_unknown_fields_get_a_warning(local_api: LocalApi, kubectl: Kubectl) -> None:
    """With --validate=warn."""
    odd = json.dumps(a_map("odd") | {"flavour": "sweet"})
    output = kubectl.run("create", "-f", "-", "--validate=warn", stdin=odd)
    assert (output.code, output.err) == (0, 'Warning: unknown field "flavour"\n')


async def test_logs_are_streamed_from_the_node(kubectl: Kubectl, local_api: LocalApi) -> None:
    """Over TLS with the token; an error of the node is passed on."""
    requests: list[tuple[str, str]] = []

    async def answer(request: web.Request) -> web.StreamResponse:
        requests.append((request.path_qs, request.headers["Authorization"]))
        if "previous" in request.query:
            raise web.HTTPBadRequest(text='previous terminated container "engine" in pod "p" not found')
        response = web.StreamResponse()
        await response.prepare(request)
        for line in (b"loading\n", b"ready\n"):
            await response.write(line)
        return response

    async with node_on(local_api, answer) as name:
        await asyncio.to_thread(bound_pod, local_api, kubectl, name)
        followed = await asyncio.to_thread(kubectl, "logs p -f --tail 5")
        refused = await asyncio.to_thread(kubectl.refused, "logs p --previous")
    assert followed == "loading\nready"
    assert refused == (
        'Error from server (BadRequest): previous terminated container "engine" in pod "p" not found'
    )
    path = f"/containerLogs/{kubectl.namespace}/p/engine"
    assert requests[0] == (f"{path}?follow=true&tailLines=5", f"Bearer {TOKEN}")


class node_on:  # noqa: N801 -- used as a function
    """A node whose logs come from a handler, for the duration of the block."""

    def __init__(self, api: LocalApi, handler: Callable[[web.Request], Any]) -> None:
        self._api = api
        app = web.Application()
        app.router.add_get("/containerLogs/{namespace}/{pod}/{container}", handler)
        self._runner = web.AppRunner(app)

    async def __aenter__(self) -> str:
        await self._runner.setup()
        context = tls.server_context(tls_files(self._api.state / "certificates", "node"))
        await web.TCPSite(self._runner, "127.0.0.1", 0, ssl_context=context).start()
        port = self._runner.addresses[0][1]
        status = {
            "addresses": [{"type": "InternalIP", "address": "127.0.0.1"}],
            "daemonEndpoints": {"kubeletEndpoint": {"Port": port}},
        }
        name = f"node-{port}"
        node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}, "status": status}
        await asyncio.to_thread(self._api.open, "/api/v1/nodes", method="POST", body=node)
        return name

    async def __aexit__(self, *_: object) -> None:
        await self._runner.cleanup()


def bound_pod(api: LocalApi, kubectl: Kubectl, node: str) -> None:
    """Create a Pod that is bound to a node."""
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "p"},
        "spec": {"nodeName": node, "containers": [{"name": "engine", "image": "example.com/engine:1"}]},
    }
    api.open(f"/api/v1/namespaces/{kubectl.namespace}/pods", method="POST", body=pod)


UNSERVED = """
apiVersion: {version}
kind: {kind}
metadata: {{name: web}}
"""


@pytest.mark.parametrize(
    ("version", "kind", "says"),
    [
        ("apps/v1", "Deployment", "the local API does not serve Deployments: it runs Pods and Jobs"),
        ("networking.k8s.io/v1", "Ingress", "the local API does not serve Ingresses: "),
        ("v1", "ResourceQuota", "the local API does not serve ResourceQuotas: "),
        ("policy/v1", "PodDisruptionBudget", "each eviction is granted"),
        ("rbac.authorization.k8s.io/v1", "ClusterRole", "it has no RBAC"),
    ],
)
@pytest.mark.parametrize("words", ["apply -f -", "apply --server-side -f -", "create -f -"])
def test_kubectl_prints_why_a_manifest_of_a_cluster_is_refused(
    kubectl: Kubectl, version: str, kind: str, says: str, words: str
) -> None:
    """In place of `no matches for kind`, which sends its reader after CustomResourceDefinitions."""
    error = kubectl.refused(words, stdin=UNSERVED.format(version=version, kind=kind))
    assert says in error
    assert "--api real or a cluster" in error
    assert "no matches for kind" not in error


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("auth whoami", "does not serve SelfSubjectReviews: it has no RBAC"),
        ("auth can-i create pods", "does not serve SelfSubjectAccessReviews: it has no RBAC"),
        ("top pods", "does not serve PodMetrics: it measures nothing"),
        ("top nodes", "does not serve NodeMetrics: it measures nothing"),
        ("create token default", "does not serve tokens of ServiceAccounts"),
        ("get cs", "does not serve ComponentStatuses"),
        ("get flowschemas", "does not serve FlowSchemas"),
        ("get priorityclass", "does not serve PriorityClasses"),
        ("get runtimeclass", "does not serve RuntimeClasses"),
    ],
)
def test_what_every_cluster_answers_and_this_one_does_not_is_refused_by_name(
    kubectl: Kubectl, words: str, says: str
) -> None:
    """In place of "Metrics API not available" or a feature gate that is missing."""
    assert says in kubectl.refused(words)


def test_a_namespace_has_what_every_cluster_gives_it(kubectl: Kubectl) -> None:
    """ServiceAccounts are served as objects: manifests that hold one can be applied."""
    spaces = kubectl("get namespaces -o name").split()
    assert {"namespace/kube-system", "namespace/kube-public", "namespace/kube-node-lease"} <= set(spaces)
    kubectl("create serviceaccount worker")
    kubectl("wait --for=create serviceaccount/default --timeout=10s")
    names = kubectl("get serviceaccounts -o name").split()
    assert names == ["serviceaccount/default", "serviceaccount/worker"]
    assert kubectl("get sa worker").splitlines()[0].split() == ["NAME", "AGE"]


def test_kubectl_reads_what_there_is_and_names_what_there_is_not(kubectl: Kubectl) -> None:
    """`get all` is about what is served; a kind by its short name is refused."""
    assert kubectl("get all") == ""
    assert "does not serve Deployments" in kubectl.refused("get deploy")
    assert "does not serve EndpointSlices" in kubectl.refused("get endpointslices")
    assert "deployments" not in kubectl("api-resources")
