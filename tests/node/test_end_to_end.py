"""The product from its manifests on a real node: a question, two Models, sleep and wake, all through the door's Service."""

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
def road(product: Product) -> Iterator[Product]:
    """Return the product with the example Model, ready."""
    product.kubectl("apply", "-f", str(ROOT / "examples" / "local" / "smollm2.yaml"))
    product.ready("smollm2")
    yield product
    product.delete("smollm2", "smollm2-again")


@pytest.mark.parametrize("service", SERVICES)
def test_every_service_runs_as_shipped(product: Product, service: str) -> None:
    """One container from the one image, not root, on a read-only root, without capabilities, confined."""
    here = [pod for pod in product.pods(service) if pod["spec"].get("nodeName") == FIRST.name]
    (pod,) = [pod for pod in here if not pod["metadata"].get("deletionTimestamp")]
    (container,) = pod["spec"]["containers"]
    security = container["securityContext"]
    assert pod["spec"]["serviceAccountName"] == f"flexinfer-{service}"
    assert pod["spec"]["securityContext"]["runAsNonRoot"]
    assert pod["spec"]["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert security["readOnlyRootFilesystem"]
    assert security["capabilities"] == {"drop": ["ALL"]}
    assert pod["status"]["containerStatuses"][0]["ready"]


def test_network_policies_are_valid_and_this_network_enforces_none(product: Product) -> None:
    """The API server takes them strictly; the bridge plugin of this cluster ignores them, so what they forbid is not shown here."""
    product.kubectl("apply", "-k", str(ROOT / "deploy/overlays/dev"), "--dry-run=server", "--validate=strict")
    policies = product.cluster.object("networkpolicies", "-n", SYSTEM)["items"]
    assert "flexinfer-nothing-else" in [p["metadata"]["name"] for p in policies]


def test_a_question_gets_a_true_answer(road: Product) -> None:
    """By OpenAI's SDK, through the Service of the door, from weights of a claim."""
    assert "Paris" in road.ask("smollm2")
    with road.client() as client:
        assert "smollm2" in [m.id for m in client.models.list()]


def test_a_pod_asks_by_the_model_s_own_service(road: Product) -> None:
    """`http://<model>.<namespace>` is the door; the cluster's DNS and kube-proxy lead there."""
    body = json.dumps({"model": "smollm2", "messages": QUESTION, "max_tokens": 24, "temperature": 0})
    script = (
        "import sys,urllib.request as u;"
        "r=u.Request('http://smollm2.default/v1/chat/completions',sys.argv[1].encode(),{'Content-Type':'application/json'});"
        "print(u.urlopen(r,timeout=60).read().decode())"
    )
    pod = road.pods("watcher")[0]["metadata"]["name"]
    assert "Paris" in road.kubectl("exec", "-n", SYSTEM, pod, "--", "python", "-c", script, body)


def test_two_models_answer_side_by_side(road: Product) -> None:
    """Each has an engine and an address of its own."""
    road.kubectl("apply", "-f", str(ROOT / "examples" / "local" / "smollm2-again.yaml"))
    road.ready("smollm2-again")
    assert "Paris" in road.ask("smollm2")
    assert "Paris" in road.ask("smollm2-again")
    first, second = (road.engine(name)["status"]["podIP"] for name in ("smollm2", "smollm2-again"))
    assert first != second


def test_it_sleeps_and_a_question_wakes_it(road: Product, measured: Callable[[str, float], None]) -> None:
    """The Pod is gone while it sleeps, the Service stays."""
    road.patch("smollm2", serverless={"idleTimeout": "2s"})
    road.until_phase("smollm2", "Idle", 60)
    assert not road.engine("smollm2")
    assert road.cluster.object("service", "smollm2")["spec"]["type"] == "ExternalName"
    began = time.monotonic()
    assert "Paris" in road.ask("smollm2")
    measured("asleep -> answered", time.monotonic() - began)


def test_the_logs_of_an_engine_are_read_by_kubectl(road: Product) -> None:
    """The API server asks kubelet for them."""
    road.patch("smollm2", serverless={"idleTimeout": "5m"})
    road.ask("smollm2")
    assert "listening" in road.kubectl("logs", "smollm2-0")


def test_a_deleted_model_leaves_nothing_but_its_claim(road: Product) -> None:
    """And the door knows it no more."""
    road.delete("smollm2")
    assert not road.engine("smollm2")
    with pytest.raises(openai.NotFoundError):
        road.ask("smollm2")
    assert road.cluster.object("pvc", "models")["status"]["phase"] == "Bound"
