"""The real kube-scheduler with deploy/scheduler: another's Pod with an estimate goes only where its GPU memory is free."""

import asyncio
import contextlib
import json
import subprocess
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from flexinfer.api.labels import VRAM_ESTIMATE_ANNOTATION
from flexinfer.events.events import GpusObserved
from flexinfer.events.nodes import Device
from flexinfer.local import instance as instances
from flexinfer.local.controlplane import processes
from flexinfer.runtime.nats import connection
from flexinfer.runtime.nats.state_reader import NatsBus
from tests.cluster.installed import SYSTEM
from tests.cluster.replicas import Replicas, replicas
from tests.instance import Running, until
from tests.manifests import DEPLOY, objects
from tests.patience import patient
from tests.ports import free_ports

SCHEDULER = "flexinfer-scheduler"
NAMESPACE = "others"
CARDS = {
    "small": Device(
        uuid="GPU-s", name="GTX 980 Ti", vendor="nvidia", architecture="sm_52", total_mb=6144, free_mb=6000
    ),
    "big": Device(
        uuid="GPU-b", name="RTX 3090", vendor="nvidia", architecture="sm_86", total_mb=24576, free_mb=24000
    ),
}
SECONDS = 30.0


class Cluster:
    """A control plane with two nodes, two placers that serve the extender, and the second scheduler."""

    def __init__(self, members: Replicas, folder: Path) -> None:
        self.members, self.plane, self._folder = members, members.plane, folder
        self.ports = dict(zip(("one", "two"), free_ports(2), strict=True))

    def apply(self, *manifests: dict[str, Any]) -> None:
        """Apply objects."""
        file = self._folder / "objects.json"
        file.write_text(json.dumps({"apiVersion": "v1", "kind": "List", "items": list(manifests)}))
        self.plane.kubectl("apply", "--server-side", "-f", str(file))

    def start(self) -> None:
        """Create the nodes, and start the watcher and both placers: the second is a standby."""
        amounts = {"cpu": "8", "memory": "16Gi", "pods": "10"}
        for name in CARDS:
            self.apply({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}})
            status = {
                "capacity": amounts,
                "allocatable": amounts,
                "conditions": [{"type": "Ready", "status": "True"}],
            }
            patch = json.dumps({"status": status})
            self.plane.kubectl("patch", "node", name, "--subresource=status", "--type=merge", "-p", patch)
        self.members.start("watcher", "one")
        for identity, port in self.ports.items():
            self.members.start("placer", identity, others={"FLEXINFER_EXTENDER_PORT": str(port)})

    def scheduler_config(self) -> Path:
        """Return the configuration of deploy/scheduler, with this machine's addresses, and the rights of its ServiceAccount."""
        rights = ("ServiceAccount", "ClusterRoleBinding")
        self.apply(*(obj for obj in objects("scheduler") if obj["kind"] in rights))
        token = self.plane.kubectl("create", "token", SCHEDULER, "-n", SYSTEM).strip()
        kubeconfig = json.loads(self.plane.kubectl("config", "view", "--raw", "--minify", "-o", "json"))
        kubeconfig["users"][0]["user"] = {"token": token}
        (self._folder / "scheduler.kubeconfig").write_text(json.dumps(kubeconfig))
        config = yaml.safe_load((DEPLOY / "scheduler" / "config.yaml").read_text())
        config["clientConnection"] = {"kubeconfig": str(self._folder / "scheduler.kubeconfig")}
        config["extenders"][0]["urlPrefix"] = f"http://127.0.0.1:{self.ports['one']}"
        path = self._folder / "config.yaml"
        path.write_text(yaml.safe_dump(config))
        return path

    def report(self) -> None:
        """Publish the telemetry of both nodes, as their agents would, and wait until the scheduler's placer has it: a Pod is not refused for want of it."""

        async def publish() -> None:
            async with connection.connected("agent", self.members.bus.url, "", "") as link:
                for name, card in CARDS.items():
                    event = GpusObserved(node=name, boot="b", sample=1, devices=(card,))
                    assert await NatsBus(link).publish(event)

        asyncio.run(publish())
        until(lambda: self.filtered("one", "20000")["NodeNames"] == ["big"], SECONDS, "the placer has it")

    def create(self, name: str, estimate: str | None) -> None:
        """Create a Pod that names the second scheduler and tolerates that no kubelet reports on the nodes."""
        annotations = {} if estimate is None else {VRAM_ESTIMATE_ANNOTATION: estimate}
        spec = {
            "schedulerName": SCHEDULER,
            "tolerations": [{"operator": "Exists"}],
            "containers": [{"name": "c", "image": "none"}],
        }
        self.apply(
            {
                "apiVersion": "v1",
                "kind": "Pod",
                "metadata": {"name": name, "namespace": NAMESPACE, "annotations": annotations},
                "spec": spec,
            }
        )

    def node_of(self, name: str) -> str:
        """Return the node that a Pod is bound to; empty while it is Pending."""
        return self.plane.kubectl("get", "pod", name, "-n", NAMESPACE, "-o", "jsonpath={.spec.nodeName}")

    def refusal(self, name: str) -> str:
        """Return the message of a Pod's FailedScheduling; empty before there is one."""
        selector = f"involvedObject.name={name},reason=FailedScheduling"
        items = json.loads(
            self.plane.kubectl("get", "events", "-n", NAMESPACE, "--field-selector", selector, "-o", "json")
        )["items"]
        return str(items[-1]["message"]) if items else ""

    def filtered(self, identity: str, estimate: str) -> dict[str, Any]:
        """Return what a placer answers to /filter."""
        pod = {"metadata": {"name": "p", "annotations": {VRAM_ESTIMATE_ANNOTATION: estimate}}}
        body = json.dumps({"Pod": pod, "NodeNames": [*CARDS]}).encode()
        request = urllib.request.Request(f"http://127.0.0.1:{self.ports[identity]}/filter", body)
        with urllib.request.urlopen(request, timeout=patient(5)) as response:
            result: dict[str, Any] = json.load(response)
        return result


@contextlib.contextmanager
def scheduler(cluster: Cluster, folder: Path) -> Iterator[None]:
    """Run the control plane's own kube-scheduler a second time, with our configuration."""
    paths = json.loads(processes.programs_file(instances.load(cluster.plane.state)).read_text())
    command = [paths["kube-scheduler"], f"--config={cluster.scheduler_config()}", "--secure-port=0"]
    with (folder / "scheduler.log").open("ab") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        yield
    finally:
        process.kill()
        process.wait()


@pytest.fixture(scope="module")
def cluster(plane: Running, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """The cluster, with the second scheduler running."""
    folder = tmp_path_factory.mktemp("extender")
    with asyncio.Runner() as runner:
        context = replicas(plane, folder)
        running = Cluster(runner.run(context.__aenter__()), folder)
        try:
            running.start()
            running.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}})
            until(
                lambda: "default" in plane.kubectl("get", "sa", "-n", NAMESPACE, "-o", "name"),
                SECONDS,
                "the ServiceAccount",
            )
            with scheduler(running, folder):
                yield running
        finally:
            runner.run(context.__aexit__(None, None, None))
            plane.kubectl("delete", "node", *CARDS, "--wait=false", check=False)
            plane.kubectl(
                "delete", "pods", "-n", NAMESPACE, "--all", "--force", "--grace-period=0", check=False
            )


def test_a_pod_is_kept_off_the_small_node_and_bound_to_the_big_one(cluster: Cluster) -> None:
    """20000 MiB fit on one card of two; a Pod without the annotation goes anywhere."""
    cluster.report()
    cluster.create("trainer", "20000")
    cluster.create("plain", None)
    until(lambda: cluster.node_of("trainer") == "big", SECONDS, "the Pod is bound to the big node")
    until(lambda: cluster.node_of("plain") in CARDS, SECONDS, "the Pod without the annotation is bound")


def test_a_pod_goes_where_it_fits_tightest(cluster: Cluster) -> None:
    """By the scores: small things leave the big card free."""
    cluster.report()
    cluster.create("tight", "5500")
    until(lambda: cluster.node_of("tight") == "small", SECONDS, "the Pod is bound to the small node")


def test_a_pod_that_is_too_big_for_all_stays_pending_with_the_reason_in_its_event(cluster: Cluster) -> None:
    """Of each node, with the numbers."""
    cluster.report()
    cluster.create("huge", "40000")
    until(
        lambda: "2 nodes are available" in cluster.refusal("huge"), SECONDS, "the scheduler gives its reason"
    )
    message = cluster.refusal("huge")
    assert "flexinfer: needs 40000 MiB on 1 device: RTX 3090 (sm_86) has 24576 MiB in all" in message
    assert "GTX 980 Ti (sm_52) has 6144 MiB in all" in message
    assert cluster.node_of("huge") == ""


def test_an_estimate_that_is_no_number_is_shown_to_who_wrote_it(cluster: Cluster) -> None:
    """The Pod stays Pending."""
    cluster.create("typo", "20GB")
    until(
        lambda: "write a whole number of MiB" in cluster.refusal("typo"),
        SECONDS,
        "the scheduler gives the reason",
    )
    assert cluster.node_of("typo") == ""


def test_a_standby_answers_like_the_leader(cluster: Cluster) -> None:
    """Each from its own observed state: the Service may choose any."""
    cluster.report()
    assert cluster.members.holder("placer") == "placer-one"

    def answers(identity: str) -> Callable[[], bool]:
        return lambda: cluster.filtered(identity, "20000")["NodeNames"] == ["big"]

    for identity in cluster.ports:
        until(answers(identity), SECONDS, f"placer {identity} answers")
