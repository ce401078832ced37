"""ResourceSlices and ResourceClaims: which cards a node has, who may have one at once and who has one, and that a cluster without them is none the worse."""

import asyncio
from typing import Any

import msgspec
import pytest

from flexinfer.api import kube, resource_api
from flexinfer.api.kinds import RESOURCE_CLAIMS, RESOURCE_SLICES
from flexinfer.api.labels import MODEL_UID_LABEL
from flexinfer.api.metadata import Metadata
from flexinfer.events import events
from flexinfer.events.nodes import DeviceClaim, DraDevice, NodeFacts
from flexinfer.runtime.kubernetes.api import NODES, Listing, NotFoundError
from flexinfer.runtime.settings import Settings
from flexinfer.watcher.cache import SubjectKey
from flexinfer.watcher.dra import device_claims, dra_devices
from flexinfer.watcher.watch import follow
from tests.runtimes import a_runtime
from tests.unit.watcher.scripted import ScriptedCluster
from tests.unit.watcher.test_cache import NODE, a_cache, a_node

DRIVER = "gpu.flexinfer.test"
GIB = 2**30
CARD: dict[str, Any] = {
    "name": "gpu-0",
    "attributes": {"uuid": {"string": "GPU-1"}, "count": {"int": 1}},
    "capacity": {"memory": {"value": "24Gi"}},
}
MANY = {"allowMultipleAllocations": True}


def a_slice(
    *devices: dict[str, Any], node: str = "a", name: str = "s", **spec: Any
) -> resource_api.ResourceSlice:
    """Return a ResourceSlice of a node, as its JSON."""
    pool = {"name": node, "generation": spec.pop("generation", 1), "resourceSliceCount": 1}
    body = {"driver": DRIVER, "nodeName": node, "pool": pool, "devices": [*devices]} | spec
    return msgspec.convert({"metadata": {"name": name}, "spec": body}, resource_api.ResourceSlice)


def with_capacity(**capacity: Any) -> dict[str, Any]:
    """Return a card that several claims may have, with these capacities."""
    return CARD | MANY | {"capacity": capacity}


def test_a_card_is_read_with_its_name_and_memory() -> None:
    """Without a policy every amount may be requested."""
    assert dra_devices([a_slice(CARD)], "a") == (
        DraDevice(driver=DRIVER, name="gpu-0", uuid="GPU-1", memory=24 * GIB),
    )


def test_a_policy_is_read_as_the_scheduler_applies_it() -> None:
    """A range with steps, or a list of amounts."""
    steps = {
        "value": "24Gi",
        "requestPolicy": {"default": "4Gi", "validRange": {"min": "4Gi", "step": "2Gi"}},
    }
    [device] = dra_devices([a_slice(with_capacity(memory=steps))], "a")
    assert (device.least, device.step, device.most) == (4 * GIB, 2 * GIB, 0)
    choices = {"value": "24Gi", "requestPolicy": {"validValues": ["12Gi", "6Gi", "junk"]}}
    [device] = dra_devices([a_slice(with_capacity(memory=choices))], "a")
    assert device.choices == (6 * GIB, 12 * GIB)


SHARING = [
    pytest.param(CARD, False, id="one claim at a time"),
    pytest.param(CARD | MANY, True, id="several claims"),
    pytest.param(with_capacity(memory={"value": "0"}), False, id="memory that its driver cannot read"),
    pytest.param(CARD | MANY | {"capacity": {}}, False, id="no memory to request a part of"),
    pytest.param(
        with_capacity(memory={"value": "24Gi"}, units={"value": "80"}), False, id="another capacity that one claim takes"
    ),
    pytest.param(
        with_capacity(memory={"value": "24Gi"}, shares={"value": "4", "requestPolicy": {"default": "1"}}),
        True,
        id="four shares",
    ),
    pytest.param(
        with_capacity(memory={"value": "24Gi"}, partitions={"value": "1", "requestPolicy": {"default": "1"}}),
        False,
        id="one partition",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("card", "shared"), SHARING)
def test_a_card_is_shared_only_where_two_claims_can_have_it(card: dict[str, Any], *, shared: bool) -> None:
    """An API server whose gate is off drops `allowMultipleAllocations` without a word, so it is read back from the slice (G20)."""
    [device] = dra_devices([a_slice(card)], "a")
    assert device.shared is shared


def test_slices_of_an_older_generation_and_of_other_nodes_do_not_count() -> None:
    """Of a pool only the newest generation does; a slice may name the node of each device."""
    old = a_slice(CARD, name="old", generation=1)
    new = a_slice(CARD | {"name": "gpu-9"}, name="new", generation=2)
    assert [device.name for device in dra_devices([old, new], "a")] == ["gpu-9"]
    apart = a_slice(CARD | {"nodeName": "b"}, node="", perDeviceNodeSelection=True)
    assert dra_devices([apart], "a") == ()
    assert [device.name for device in dra_devices([apart], "b")] == ["gpu-0"]


def test_a_tainted_card_is_marked() -> None:
    """G11: the driver takes a card out; nothing starts there."""
    taint = {"key": "xid", "effect": "NoExecute"}
    assert dra_devices([a_slice(CARD | {"taints": [taint]})], "a")[0].tainted
    assert not dra_devices([a_slice(CARD | {"taints": [taint | {"effect": "None"}]})], "a")[0].tainted


def test_a_slice_changes_the_fact_about_its_node() -> None:
    """Also when it goes."""
    cache = a_cache()
    cache.upsert(NODES, a_node())
    assert cache.upsert(RESOURCE_SLICES, a_slice(CARD)) == {NODE}
    assert [device.uuid for device in facts_of(cache.event(NODE)).dra] == ["GPU-1"]
    assert cache.upsert(RESOURCE_SLICES, a_slice(CARD, node="b")) == {NODE, SubjectKey("node", "", "b")}
    assert facts_of(cache.event(NODE)).dra == ()


def a_claim(*results: dict[str, Any], **metadata: Any) -> resource_api.ResourceClaim:
    """Return a ResourceClaim as the scheduler leaves it, as its JSON; without results it has nothing."""
    allocation = {
        "devices": {"results": [{"driver": DRIVER, "pool": "a", "device": "gpu-0"} | r for r in results]}
    }
    status = {
        "allocation": allocation if results else None,
        "reservedFor": [{"resource": "pods", "name": "p", "uid": "pod-1"}],
    }
    body = {"metadata": {"name": "notebook", "namespace": "lab"} | metadata, "spec": {}, "status": status}
    return msgspec.json.decode(msgspec.json.encode(body), type=resource_api.ResourceClaim)  # fmt: skip


def claims_of(*claims: resource_api.ResourceClaim) -> tuple[DeviceClaim, ...]:
    """Return what is published of these claims for a node with one card."""
    return device_claims([a_slice(CARD)], claims, "a")


WHOLE = DeviceClaim(name="lab/notebook", uuid="GPU-1", pods=("pod-1",))
OUR_LABEL = {MODEL_UID_LABEL: "uid-llama"}
TAKEN = [
    pytest.param(a_claim({}), (WHOLE,), id="the whole card"),
    pytest.param(
        a_claim({"shareID": "s", "consumedCapacity": {"memory": "10Gi"}}),
        (msgspec.structs.replace(WHOLE, shared=True, memory=10 * GIB),),
        id="a part of its memory",
    ),
    pytest.param(
        a_claim({"shareID": "s", "consumedCapacity": {"shares": "1"}}),
        (msgspec.structs.replace(WHOLE, shared=True),),
        id="a share without memory",
    ),
    pytest.param(a_claim(), (), id="not allocated"),
    pytest.param(a_claim({"adminAccess": True}), (), id="an administrator looks"),
    pytest.param(a_claim({"device": "gpu-7"}), (), id="a device that is gone"),
    pytest.param(a_claim({"pool": "b"}), (), id="a card of that name in another pool"),
    pytest.param(a_claim({"driver": "other.test"}), (), id="a card of that name of another driver"),
    pytest.param(a_claim({}, labels=OUR_LABEL), (), id="a Model's own"),
]


@pytest.mark.parametrize(("claim", "taken"), TAKEN)
def test_what_a_claim_of_another_user_has_is_published(
    claim: resource_api.ResourceClaim, taken: tuple[DeviceClaim, ...]
) -> None:
    """By the card's own names, and who uses it."""
    assert claims_of(claim) == taken


def test_a_claim_for_a_part_of_a_card_is_published_as_one_of_the_card() -> None:
    """A MIG device is no card that is offered to Models; who has it keeps them off the card that it is a part of."""
    attributes = {"type": {"string": "mig"}, "uuid": {"string": "MIG-1"}, "parentUUID": {"string": "GPU-1"}}
    part = {"name": "gpu-0-mig-9-0-4", "attributes": attributes, "capacity": {"memory": {"value": "10Gi"}}}
    slices = [a_slice(part, driver="gpu.nvidia.com")]
    assert dra_devices(slices, "a") == ()
    claim = a_claim({"driver": "gpu.nvidia.com", "device": "gpu-0-mig-9-0-4"})
    assert device_claims(slices, [claim], "a") == (msgspec.structs.replace(WHOLE, part=True),)


def test_a_claim_of_many_is_published_up_to_a_limit() -> None:
    """A fact must fit into a message."""
    claims = [a_claim({"shareID": "s"}, name=f"n{number:03}") for number in range(300)]
    assert [one.name for one in claims_of(*claims)] == [f"lab/n{number:03}" for number in range(256)]


def test_a_claim_changes_the_fact_about_the_node_of_its_card() -> None:
    """When it is allocated, and when it is not any more; whichever is seen first, claim or slice."""
    cache = a_cache()
    cache.upsert(NODES, a_node())
    assert cache.upsert(RESOURCE_CLAIMS, a_claim({})) == set()
    assert cache.upsert(RESOURCE_SLICES, a_slice(CARD)) == {NODE}
    assert facts_of(cache.event(NODE)).device_claims == (WHOLE,)
    assert cache.upsert(RESOURCE_CLAIMS, a_claim()) == {NODE}
    assert facts_of(cache.event(NODE)).device_claims == ()
    assert cache.upsert(RESOURCE_CLAIMS, a_claim({})) == {NODE}
    assert cache.remove(RESOURCE_CLAIMS, a_claim({})) == {NODE}


def test_a_models_own_claim_publishes_nothing() -> None:
    """Its start would else be two facts about its node more."""
    cache = a_cache()
    cache.upsert(NODES, a_node())
    cache.upsert(RESOURCE_SLICES, a_slice(CARD))
    assert cache.upsert(RESOURCE_CLAIMS, a_claim({}, labels=OUR_LABEL)) == set()


def facts_of(event: Any) -> NodeFacts:
    """Return the facts of a node."""
    assert isinstance(event, events.NodeObserved)
    return event.node


@pytest.mark.parametrize(("handlers", "offered"), [(("", "nvidia"), {"nvidia": "nvidia"}), (("runc",), {})])
def test_a_runtime_class_counts_only_where_the_node_has_its_handler(
    handlers: tuple[str, ...], offered: dict[str, str]
) -> None:
    """A Pod of another class would be bound to the node and never start there."""
    cache = a_cache(runtime_classes={"nvidia": "nvidia", "amd": "amd"})
    status = kube.NodeStatus(runtime_handlers=tuple(kube.RuntimeHandler(name=name) for name in handlers))
    cache.upsert(NODES, kube.Node(metadata=Metadata(name="a", uid="u"), status=status))
    assert facts_of(cache.event(NODE)).runtime_classes == offered


async def test_a_kind_that_the_api_server_does_not_serve_is_an_empty_list() -> None:
    """Kubernetes before 1.34: everything else is observed all the same, and it is looked for again."""
    cluster, lists = ScriptedCluster(), list[Listing[Any]]()
    cluster.faults["list"] = [NotFoundError("the server could not find the requested resource", 404)]
    served = asyncio.Event()

    class Handler:
        """Takes lists."""

        def on_list(self, kind: Any, listing: Listing[Any]) -> None:
            assert kind is RESOURCE_SLICES
            lists.append(listing)
            if listing.items:
                served.set()

        def on_change(self, kind: Any, change: Any) -> None: ...

    cluster.put(RESOURCE_SLICES, a_slice(CARD))
    runtime = a_runtime("watcher", cluster=cluster, settings=Settings(relist_seconds=0.01))
    following = asyncio.create_task(follow(runtime, RESOURCE_SLICES, Handler()))
    async with asyncio.timeout(5):
        await served.wait()
    following.cancel()
    assert [len(listing.items) for listing in lists] == [0, 1]
    assert lists[0].version == ""
