"""Devices by DRA with the real API server and scheduler: a claim gets the very card of the placement, and those of others count (G20).

Watcher, agent, placer and launcher are the product's processes; the test plays the components beside them, and a DRA driver whose
ResourceSlice it posts. There is no kubelet: a node is a Node object that says it is ready, and no Pod runs.
"""

import asyncio
import json
import signal
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest

from flexinfer.api import conditions
from flexinfer.api.conditions import clause
from flexinfer.api.model import Model
from flexinfer.api.reasons import Reason
from flexinfer.events.nodes import Device
from flexinfer.runtime.kubernetes.client import connected
from tests.cluster.owners import Owners
from tests.cluster.replicas import Replica, Replicas, replicas
from tests.instance import Running
from tests.patience import patient

NODE, DRIVER, SPACE = "dra-node", "gpu.flexinfer.test", "dra"
EXCLUSIVE = Device(uuid="GPU-aaaa", name="GTX 980 Ti", architecture="sm_52", total_mb=6144, free_mb=6000)
SHARED = Device(uuid="GPU-bbbb", name="RTX 3090", architecture="sm_86", total_mb=24576, free_mb=24000)
SMALL, LARGE = {"vendor": "nvidia", "vramEstimateMB": 5000}, {"vendor": "nvidia", "vramEstimateMB": 10240}
CANNOT_ALLOCATE = "cannot allocate all claims"
_SECONDS = 40.0
_HEARTBEAT_SECONDS = 5.0
"""The period of the node's reports; its controller gives a node 50 s."""
Json = dict[str, Any]


def objects() -> list[Json]:
    """Return the DeviceClass and the ResourceSlice that a driver and its chart would make."""
    expression = f'device.driver == "{DRIVER}"'
    devices = [
        {
            "name": f"gpu-{number}",
            "attributes": {"uuid": {"string": device.uuid}},
            "capacity": {"memory": {"value": f"{device.total_mb}Mi"}},
            **({"allowMultipleAllocations": True} if device is SHARED else {}),
        }
        for number, device in enumerate((EXCLUSIVE, SHARED))
    ]
    pool = {"name": NODE, "generation": 1, "resourceSliceCount": 1}
    return [
        {"kind": "DeviceClass", "metadata": {"name": DRIVER}, "spec": {"selectors": [{"cel": {"expression": expression}}]}},
        {
            "kind": "ResourceSlice",
            "metadata": {"name": f"{NODE}-{DRIVER}"},
            "spec": {"driver": DRIVER, "nodeName": NODE, "pool": pool, "devices": devices},
        },
    ]  # fmt: skip


def outsider(name: str, uuid: str, memory: str = "") -> list[Json]:
    """Return a Pod of another user and its claim for a card."""
    exactly: Json = {
        "deviceClassName": DRIVER,
        "selectors": [
            {"cel": {"expression": f'device.attributes["{DRIVER}"].?uuid.orValue("") == "{uuid}"'}}
        ],
    }
    if memory:
        exactly["capacity"] = {"requests": {"memory": memory}}
    claims = [{"name": "gpu", "resourceClaimName": name}]
    container = {"name": "c", "image": "none", "resources": {"claims": [{"name": "gpu"}]}}
    spec = {"devices": {"requests": [{"name": "gpu", "exactly": exactly}]}}
    return [
        {"kind": "ResourceClaim", "metadata": {"name": name}, "spec": spec},
        {"kind": "Pod", "metadata": {"name": name}, "spec": {"resourceClaims": claims, "containers": [container]}},
    ]  # fmt: skip


class Story:
    """The control plane, seen by an administrator, and the components that the test plays."""

    def __init__(self, plane: Running, owners: Owners) -> None:
        self._plane, self.owners = plane, owners

    def kubectl(self, *words: str) -> str:
        """Run kubectl in the namespace of this test."""
        return self._plane.kubectl("-n", SPACE, *words)

    def apply(self, folder: Path, items: list[Json]) -> None:
        """Apply objects."""
        versions = {"Pod": "v1"}
        bodies = [{"apiVersion": versions.get(item["kind"], "resource.k8s.io/v1"), **item} for item in items]
        file = folder / "objects.json"
        file.write_text(json.dumps({"apiVersion": "v1", "kind": "List", "items": bodies}))
        self.kubectl("apply", "-f", str(file))

    def write_ready(self) -> None:
        """Let the node say that it is ready, as its kubelet would from time to time: with the time, without which nothing is new to its controller."""
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        ready = {"type": "Ready", "status": "True", "reason": "KubeletReady", "lastHeartbeatTime": now}
        amounts = {"cpu": "8", "memory": "16Gi", "pods": "20"}
        patch = {"status": {"conditions": [ready], "capacity": amounts, "allocatable": amounts}}
        self._plane.kubectl(
            "patch", "node", NODE, "--subresource=status", "--type=merge", "-p", json.dumps(patch)
        )

    async def stay_ready(self) -> None:
        """Let the node say so again and again, long before the control plane takes it for lost."""
        while True:
            await asyncio.to_thread(self.write_ready)
            await asyncio.sleep(_HEARTBEAT_SECONDS)

    async def until(self, look: Callable[[], Any], what: str) -> Any:
        """Wait until something is seen, and return it."""
        try:
            async with asyncio.timeout(patient(_SECONDS)):
                while not (seen := await asyncio.to_thread(look)):
                    await asyncio.sleep(0.1)
                return seen
        except TimeoutError:
            state = self.kubectl("get", "pods,resourceclaims,mdl", "-o", "yaml")
            raise AssertionError(f"not within {patient(_SECONDS):g} s: {what}; {state}") from None

    def pod(self, name: str) -> Json:
        """Return a Pod; empty if there is none."""
        return dict(json.loads(self.kubectl("get", "pod", name, "--ignore-not-found", "-o", "json") or "{}"))

    def claims(self) -> dict[str, Json]:
        """Return the claims by their owner's name; those of other users by their own."""
        items = json.loads(self.kubectl("get", "resourceclaims", "-o", "json"))["items"]
        return {
            (item["metadata"].get("ownerReferences") or [item["metadata"]])[0]["name"]: item for item in items
        }

    async def create(self, name: str, gpu: Json) -> None:
        """Create a Model that is to start, but for the grant of its devices."""
        await self.owners.apply(name, gpu=gpu)
        await self.owners.write_condition(name, conditions.WANTED, "True", Reason.REQUESTED)
        await self.owners.write_condition(name, conditions.CACHED, "True", Reason.CACHED)

    async def grant(self, name: str) -> None:
        """Let the launcher start a Model."""
        await self.owners.write_condition(name, conditions.GRANTED, "True", Reason.NOT_SHARED)

    async def placed(self, name: str) -> Model:
        """Wait until a Model is placed, with its memory checked for this start."""
        return await self.owners.until(name, lambda model: model.is_true(conditions.PLACED) and model.checked)

    async def refused(self, name: str, words: str) -> str:
        """Wait until the placer refuses a Model with these words; return its message."""
        model = await self.owners.until(name, lambda model: words in message_of(model, conditions.PLACED))
        assert not model.is_true(conditions.PLACED)
        return message_of(model, conditions.PLACED)

    async def start(self, name: str, gpu: Json) -> Model:
        """Create a Model, and let everything come true that the processes of this test do not write."""
        await self.create(name, gpu)
        await self.grant(name)
        return await self.placed(name)

    async def bound(self, name: str) -> Json:
        """Wait until the scheduler has bound a Pod; return the devices of its claim."""
        await self.until(lambda: self.pod(name).get("spec", {}).get("nodeName"), f"{name} is bound")
        claim = self.claims()[name]
        assert claim["status"]["reservedFor"][0]["name"] == name
        return dict(claim["status"]["allocation"]["devices"])

    async def pending(self, name: str) -> str:
        """Wait until the scheduler has refused a Pod for its claim, and not because that was not there yet; return its message."""

        def refused() -> str:
            found = self.pod(name).get("status", {}).get("conditions", ())
            messages = (str(c.get("message", "")) for c in found if c.get("reason") == "Unschedulable")
            return next((message for message in messages if CANNOT_ALLOCATE in message), "")

        return str(await self.until(refused, f"{name} is refused"))

    def end(self, name: str) -> None:
        """Delete a Pod as its kubelet would in the end."""
        self.kubectl("delete", "pod", name, "--grace-period=0", "--force", "--ignore-not-found")


async def play(plane: Running, processes: Replicas, folder: Path) -> dict[str, Any]:
    """Play the whole story; return what was seen."""
    seen: dict[str, Any] = {}
    async with connected(plane.environment()["KUBECONFIG"]) as api:
        story = Story(plane, Owners(api, SPACE))
        await story.owners.open()
        await asyncio.to_thread(prepare, story, plane, folder)
        kubelet = asyncio.create_task(story.stay_ready())
        for name in ("watcher", "launcher"):
            await asyncio.to_thread(processes.start, name, "dra")
        placer = await asyncio.to_thread(processes.start, "placer", "dra")
        cards = folder / "cards.json"
        cards.write_bytes(msgspec.json.encode({"devices": (EXCLUSIVE, SHARED)}))
        variables = {"FLEXINFER_NODE_NAME": NODE, "FLEXINFER_SIMULATED_GPUS": str(cards)}
        await asyncio.to_thread(processes.start, "agent", "dra", None, variables)
        await one_holder(story, placer, folder, seen)
        await many_holders(story, folder, seen)
        await other_users(story, folder, seen)
        kubelet.cancel()
        await asyncio.gather(kubelet, return_exceptions=True)
    return seen


def prepare(story: Story, plane: Running, folder: Path) -> None:
    """Create the node, and what a driver would."""
    node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": NODE}}
    (folder / "node.json").write_text(json.dumps(node))
    plane.kubectl("apply", "-f", str(folder / "node.json"))
    story.write_ready()
    story.apply(folder, objects())


async def one_holder(story: Story, placer: Replica, folder: Path, seen: dict[str, Any]) -> None:
    """The card that one claim may have: taken by another user once a Model was placed there, then given back."""
    await story.create("small", SMALL)
    seen["placed"] = await story.placed("small")
    placer.signal(signal.SIGSTOP)  # what it has decided is out of date before the Pod is there
    story.apply(folder, outsider("foreign", EXCLUSIVE.uuid))
    await story.bound("foreign")
    await story.grant("small")
    seen["waits"] = await story.pending("small-0")
    placer.signal(signal.SIGCONT)
    await story.owners.until(
        "small", lambda model: clause(seen["waits"]) in message_of(model, conditions.READY)
    )
    story.end("foreign")
    seen["small"] = await story.bound("small-0")
    await story.owners.write_condition("small", conditions.WANTED, "False", Reason.IDLE)
    await story.until(lambda: story.pod("small-0")["metadata"].get("deletionTimestamp"), "it is stopped")
    story.end("small-0")
    seen["collected"] = await story.until(lambda: "small-0" not in story.claims(), "its claim is gone")


def message_of(model: Model, kind: str) -> str:
    """Return what a condition says of a Model."""
    condition = model.condition(kind)
    return condition.message if condition is not None else ""


async def many_holders(story: Story, folder: Path, seen: dict[str, Any]) -> None:
    """The card that several claims may have: two Models on it, and no room for a third claim."""
    seen["shared"] = await story.start("first", LARGE)
    seen["first"] = await story.bound("first-0")
    await story.start("second", LARGE)
    seen["second"] = await story.bound("second-0")
    story.apply(folder, outsider("third", SHARED.uuid, "10Gi"))
    seen["third waits"] = await story.pending("third")


async def other_users(story: Story, folder: Path, seen: dict[str, Any]) -> None:
    """What claims of others have, which no telemetry shows: one card whole, and a part of the other, where a Model was before."""
    story.apply(folder, outsider("whole", EXCLUSIVE.uuid))
    await story.bound("whole")
    await story.create("late", SMALL)
    seen["late"] = await story.refused("late", "ResourceClaim")
    story.end("whole")
    seen["late placed"] = await story.placed("late")
    await story.owners.write_condition("first", conditions.WANTED, "False", Reason.IDLE)
    await story.until(lambda: story.pod("first-0")["metadata"].get("deletionTimestamp"), "it is stopped")
    story.end("first-0")
    await story.bound("third")
    await story.create("fourth", LARGE)
    seen["fourth"] = await story.refused("fourth", "ResourceClaim")


@pytest.fixture(scope="module")
def seen(plane: Running, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """What was seen of the story."""
    folder = tmp_path_factory.mktemp("dra")

    async def run() -> dict[str, Any]:
        async with replicas(plane, folder) as processes:
            return await play(plane, processes, folder)

    try:
        yield asyncio.run(run())
    finally:
        plane.kubectl("delete", "namespace", SPACE, "--wait=false")
        plane.kubectl("delete", "node", NODE)
        plane.kubectl("delete", "resourceslices,deviceclasses", "--all")


def test_the_placement_says_that_a_claim_gives_the_card_and_to_whom(seen: dict[str, Any]) -> None:
    """By the slice as the API server returns it, and telemetry of the same uuid."""
    model = seen["placed"]
    placement = model.status.placement
    assert (placement.node, placement.binding, placement.driver) == (NODE, "DRA", DRIVER)
    assert (placement.uuids, placement.shared) == ((EXCLUSIVE.uuid,), False)


def test_the_claim_gets_the_very_card_of_the_placement(seen: dict[str, Any]) -> None:
    """Allocated by the real scheduler, which bound the Pod to the card's node."""
    [result] = seen["small"]["results"]
    assert (result["driver"], result["pool"], result["device"]) == (DRIVER, NODE, "gpu-0")
    assert "shareID" not in result


def test_the_scheduler_keeps_a_second_pod_away_from_a_card_of_one_claim(seen: dict[str, Any]) -> None:
    """Another user's Pod had it: the Model's waits, with the scheduler's words in Ready, and starts once that is gone."""
    assert CANNOT_ALLOCATE in seen["waits"]


def test_a_claim_is_gone_with_its_pod(seen: dict[str, Any]) -> None:
    """The garbage collector deletes it: the launcher has no right to."""
    assert seen["collected"]


def test_two_models_have_a_shared_card_and_the_scheduler_counts_their_memory(seen: dict[str, Any]) -> None:
    """10 GiB each of 24: a third claim of 10 GiB waits."""
    assert seen["shared"].status.placement.shared
    results = [seen[name]["results"][0] for name in ("first", "second")]
    assert [result["device"] for result in results] == ["gpu-1", "gpu-1"]
    assert [result["consumedCapacity"] for result in results] == [{"memory": "10Gi"}, {"memory": "10Gi"}]
    assert CANNOT_ALLOCATE in seen["third waits"]


def test_a_card_that_a_claim_of_another_user_has_is_refused_by_its_name(seen: dict[str, Any]) -> None:
    """Its Pod has not run, so that no memory is in use; the Model gets the card once the claim is gone."""
    assert f"is allocated to ResourceClaim {SPACE}/whole" in seen["late"]
    assert seen["late placed"].status.placement.uuids == (EXCLUSIVE.uuid,)


def test_what_a_claim_of_another_user_was_promised_of_a_shared_card_is_not_free(seen: dict[str, Any]) -> None:
    """10 GiB of a Model and 10 GiB of the claim, of 24."""
    assert f"ResourceClaim {SPACE}/third 10240 MiB" in seen["fourth"]
