"""FlexInfer from its manifests on a real node: requests through the Service, scale to zero and cold start."""

import json
import time
from collections.abc import Callable, Iterator

import openai
import pytest

from tests.node.images import ROOT
from tests.node.layout import FIRST
from tests.node.product import QUESTION, SYSTEM, Product

SERVICES = ("agent", "arbiter", "launcher", "placer", "prefetcher", "proxy", "reaper", "watcher")


@pytest.fixture(scope="module")
def serving(product: Product) -> Iterator[Product]:
    """Return the product with the example Model, ready."""
    product.kubectl("apply", "-f", str(ROOT / "examples" / "local" / "smollm2.yaml"))
    product.ready("smollm2")
    yield product
    product.delete("smollm2", "smollm2-again")


@pytest.mark.parametrize("service", SERVICES)
def test_every_component_runs_hardened(product: Product, service: str) -> None:
    """One container: not root, with a read-only root file system, without capabilities, with seccomp."""
    local = [pod for pod in product.pods(service) if pod["spec"].get("nodeName") == FIRST.name]
    (pod,) = [pod for pod in local if not pod["metadata"].get("deletionTimestamp")]
    (container,) = pod["spec"]["containers"]
    security = container["securityContext"]
    assert pod["spec"]["serviceAccountName"] == f"flexinfer-{service}"
    assert pod["spec"]["securityContext"]["runAsNonRoot"]
    assert pod["spec"]["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert security["readOnlyRootFilesystem"]
    assert security["capabilities"] == {"drop": ["ALL"]}
    assert pod["status"]["containerStatuses"][0]["ready"]


def test_network_policies_are_valid(product: Product) -> None:
    """They pass strict validation; the bridge plugin of this cluster does not enforce them."""
    product.kubectl("apply", "-k", str(ROOT / "deploy/overlays/dev"), "--dry-run=server", "--validate=strict")
    policies = product.cluster.object("networkpolicies", "-n", SYSTEM)["items"]
    assert "flexinfer-default-deny" in [p["metadata"]["name"] for p in policies]


def test_a_request_gets_a_correct_answer(serving: Product) -> None:
    """By an OpenAI client, through the Service of the proxy, with weights on a PVC."""
    assert "Paris" in serving.ask("smollm2")
    with serving.client() as client:
        assert "smollm2" in [m.id for m in client.models.list()]


def test_a_request_without_the_key_is_refused(serving: Product) -> None:
    """401 before anything starts: a client that reaches the Service is not yet a user."""
    with (
        openai.OpenAI(
            base_url=f"{serving.proxy_url}/v1", api_key="wrong", max_retries=0, timeout=30
        ) as client,
        pytest.raises(openai.AuthenticationError),
    ):
        client.models.list()


def test_a_pod_reaches_a_model_by_the_service_of_the_model(serving: Product) -> None:
    """`http://<model>.<namespace>` is an alias of the proxy's Service."""
    body = json.dumps({"model": "smollm2", "messages": QUESTION, "max_tokens": 24, "temperature": 0})
    script = (
        "import sys,urllib.request as u;"
        "h={'Content-Type':'application/json','Authorization':'Bearer '+sys.argv[2]};"
        "r=u.Request('http://smollm2.default/v1/chat/completions',sys.argv[1].encode(),h);"
        "print(u.urlopen(r,timeout=60).read().decode())"
    )
    pod = serving.pods("watcher")[0]["metadata"]["name"]
    assert "Paris" in serving.kubectl(
        "exec", "-n", SYSTEM, pod, "--", "python", "-c", script, body, serving.api_key
    )


def test_two_models_serve_side_by_side(serving: Product) -> None:
    """Each has its own engine and address."""
    serving.kubectl("apply", "-f", str(ROOT / "examples" / "local" / "smollm2-again.yaml"))
    serving.ready("smollm2-again")
    assert "Paris" in serving.ask("smollm2")
    assert "Paris" in serving.ask("smollm2-again")
    first, second = (serving.engine(name)["status"]["podIP"] for name in ("smollm2", "smollm2-again"))
    assert first != second


def test_a_model_scales_to_zero_and_a_request_starts_it(
    serving: Product, measured: Callable[[str, float], None]
) -> None:
    """While it is idle it has no Pod, but its Service."""
    serving.patch("smollm2", serverless={"idleTimeout": "2s"})
    serving.until_phase("smollm2", "Idle", 60)
    serving.until("smollm2", "Ready", "Stopped", 60)
    assert not serving.engine("smollm2")
    assert serving.cluster.object("service", "smollm2")["spec"]["type"] == "ExternalName"
    began = time.monotonic()
    assert "Paris" in serving.ask("smollm2")
    measured("scaled to zero -> answered", time.monotonic() - began)


def test_the_logs_of_an_engine_are_read_by_kubectl(serving: Product) -> None:
    """The API server gets them from kubelet."""
    serving.patch("smollm2", serverless={"idleTimeout": "5m"})
    serving.ask("smollm2")
    assert "listening" in serving.kubectl("logs", "smollm2-0")


def test_a_deleted_model_leaves_only_its_pvc(serving: Product) -> None:
    """The proxy answers 404 for it."""
    serving.delete("smollm2")
    assert not serving.engine("smollm2")
    with pytest.raises(openai.NotFoundError):
        serving.ask("smollm2")
    assert serving.cluster.object("pvc", "models")["status"]["phase"] == "Bound"
