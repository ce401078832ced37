"""The scheduler extender: which nodes have GPU memory for another's Pod, in the protocol of kube-scheduler."""

import json
import random
from collections.abc import AsyncIterator, Sequence
from typing import Any

import msgspec
import pytest
from aiohttp.test_utils import TestClient, TestServer
from hypothesis import given
from hypothesis import strategies as st

from flexinfer.api.model import Gpu
from flexinfer.events.nodes import Device, DeviceProcess
from flexinfer.placer import requirements
from flexinfer.placer.extender import refusals, scores
from flexinfer.placer.extender_protocol import PodToSchedule, ProtocolError, arguments
from flexinfer.placer.extender_server import ExtenderServer
from tests.builders import NOW, a_node, a_pod, a_state, running
from tests.unit.placer.test_choice import MAXWELL, RDNA3, a_box
from tests.unit.placer.test_decide import a_placed

ESTIMATE = "flexinfer.ai/gpu.vram-estimate-mb"
HOMELAB = (*a_box("old", MAXWELL), *a_box("new", RDNA3), *a_box("cpu"))
NAMES = ["old", "new", "cpu", "unknown"]


class Extender:
    """The served extender, as kube-scheduler calls it."""

    def __init__(self, client: "TestClient[Any, Any]", server: ExtenderServer) -> None:
        self._client, self._server = client, server
        self.now = NOW + 1

    def observe(self, *parts: Any, connected: float | None = 0.0) -> None:
        """Give it the state of these parts."""
        self._server.follow(a_state(*parts, connected=connected))

    async def post(self, verb: str, body: object) -> tuple[int, Any]:
        """Return status and JSON of a response."""
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        async with self._client.post(f"/{verb}", data=data) as response:
            return response.status, json.loads(await response.read())

    async def refused(self, pod: dict[str, Any], names: Sequence[str] = NAMES) -> dict[str, str]:
        """Return the nodes that a Pod may not have, with the reasons; the others are the ones that it may have."""
        status, result = await self.post("filter", {"Pod": pod, "NodeNames": names})
        failed: dict[str, str] = result["FailedAndUnresolvableNodes"]
        assert (status, result["Error"], result["Nodes"], result["FailedNodes"]) == (200, "", None, {})
        assert result["NodeNames"] == [name for name in names if name not in failed]
        return failed

    async def scores(self, pod: dict[str, Any], names: Sequence[str] = NAMES) -> dict[str, int]:
        """Return the scores of nodes."""
        status, result = await self.post("prioritize", {"Pod": pod, "NodeNames": names})
        assert status == 200
        return {entry["Host"]: entry["Score"] for entry in result}


@pytest.fixture
async def extender() -> AsyncIterator[Extender]:
    """The extender on a port of this machine, with the homelab."""
    server = ExtenderServer()
    async with TestClient(TestServer(server.application(lambda: served.now))) as client:
        served = Extender(client, server)
        served.observe(*HOMELAB)
        yield served


def a_pod_of(estimate: str | None, **resources: str) -> dict[str, Any]:
    """Return another's Pod with an estimate, and requests of GPUs by vendor."""
    annotations = {} if estimate is None else {ESTIMATE: estimate}
    limits = {f"{vendor}.com/gpu": number for vendor, number in resources.items()}
    container = {"name": "c", "image": "i", "resources": {"limits": limits, "requests": limits}}
    return {
        "metadata": {
            "name": "trainer",
            "namespace": "team",
            "annotations": annotations,
            "creationTimestamp": None,
        },
        "spec": {"containers": [container]},
    }


async def test_a_pod_is_kept_off_nodes_whose_devices_have_not_that_much_free_memory(
    extender: Extender,
) -> None:
    """With the numbers, as placement counts them."""
    assert await extender.refused(a_pod_of("20000")) == {
        "old": "flexinfer: needs 20000 MiB on 1 device: GTX 980 Ti (sm_52) has 6144 MiB in all",
        "cpu": "flexinfer: needs 20000 MiB of GPU memory; the node has no GPU of amd or nvidia",
        "unknown": "flexinfer: the node is not observed yet",
    }
    assert sorted(await extender.refused(a_pod_of("4000"))) == ["cpu", "unknown"]


async def test_a_pod_without_the_annotation_passes_everything(extender: Extender) -> None:
    """Also nodes that are not known, and GPUs that are full."""
    assert await extender.refused(a_pod_of(None, nvidia="1")) == {}
    assert await extender.scores(a_pod_of(None)) == dict.fromkeys(NAMES, 0)


async def test_the_estimate_is_of_the_whole_pod_and_counts_on_the_vendor_that_it_requests(
    extender: Extender,
) -> None:
    """24000 MiB on two cards are 12000 on each; an AMD card is none for a Pod that requests NVIDIA's."""
    cards = [
        Device(uuid=f"GPU-{n}", name="RTX 3090", vendor="nvidia", total_mb=16000, free_mb=15000) for n in "ab"
    ]
    extender.observe(*a_box("two", *cards), *a_box("new", RDNA3))
    names = ["two", "new"]
    assert sorted(await extender.refused(a_pod_of("24000", nvidia="2"), names)) == ["new"]
    assert sorted(await extender.refused(a_pod_of("24000", nvidia="1"), names)) == ["new", "two"]
    assert sorted(await extender.refused(a_pod_of("24000"), names)) == ["two"]
    assert (
        "the node has no GPU of nvidia"
        in (await extender.refused(a_pod_of("24000", nvidia="1"), names))["new"]
    )


async def test_memory_that_a_model_or_another_process_has_is_not_free(extender: Extender) -> None:
    """The holder is named; a card that a Model has for itself is not given to a second Pod."""
    game = DeviceProcess(pid=7, name="game", used_mb=15000)
    full = msgspec.structs.replace(RDNA3, free_mb=9000, used_mb=15000, processes=(game,))
    extender.observe(*a_box("new", full))
    reason = (await extender.refused(a_pod_of("20000"), ["new"]))["new"]
    assert "has 9000 MiB of 24560 MiB free (game (pid 7) 15000 MiB)" in reason
    model = a_placed(node="new", devices=("GPU-2",), gpu=Gpu(vendor="amd", vram_estimate_mb=8000))
    extender.observe(*a_box("new", RDNA3), model, running(model, a_pod(model, node="new")))
    assert "is used by default/llama" in (await extender.refused(a_pod_of("4000"), ["new"]))["new"]


@pytest.mark.parametrize(
    ("age", "reason"),
    [
        (29.0, None),
        (47.0, "flexinfer: its GPU telemetry is 47s old, 30s at most; check the agent on that node"),
    ],
)
async def test_stale_telemetry_keeps_a_pod_off_and_says_so(
    extender: Extender, age: float, reason: str | None
) -> None:
    """What was free then says nothing of now."""
    extender.now = NOW + age
    assert (await extender.refused(a_pod_of("20000"), ["new"])).get("new") == reason


async def test_a_node_that_no_agent_reports_on_is_taken_by_the_number_of_its_devices(
    extender: Extender,
) -> None:
    """As placement does; while telemetry may still come, and where an agent was once, it is waited for."""
    gpus = {"pods": 9000, "nvidia.com/gpu": 1000}
    plain, labelled = (
        a_node("plain", allocatable=gpus),
        a_node("was", allocatable=gpus, labels={"flexinfer.ai/gpu.vendor": "NVIDIA"}),
    )
    extender.observe(plain, labelled, connected=NOW)
    assert set((await extender.refused(a_pod_of("9"), ["plain", "was"])).values()) == {
        "flexinfer: no GPU telemetry of the node was received yet"
    }
    extender.now = NOW + 31
    assert await extender.refused(a_pod_of("9"), ["plain", "was"]) == {
        "was": "flexinfer: no GPU telemetry of the node for 30s; check the agent on that node"
    }


async def test_the_tightest_fit_has_the_highest_score(extender: Extender) -> None:
    """From 0 to 10; a node where it does not fit has 0."""
    assert await extender.scores(a_pod_of("6000")) == {"old": 10, "new": 2, "cpu": 0, "unknown": 0}
    assert await extender.scores(a_pod_of("20000")) == {"old": 0, "new": 8, "cpu": 0, "unknown": 0}


async def test_nodes_that_came_as_objects_go_back_as_they_came(extender: Extender) -> None:
    """`nodeCacheCapable: false`: the scheduler continues with what it is given."""
    nodes = [{"metadata": {"name": name, "labels": {"odd": name}}, "status": {"x": [1]}} for name in NAMES]
    body = {"Pod": a_pod_of("20000"), "Nodes": {"metadata": {}, "items": nodes}, "NodeNames": None}
    status, result = await extender.post("filter", body)
    assert (status, result["NodeNames"]) == (200, None)
    assert result["Nodes"]["items"] == [nodes[1]]
    assert sorted(result["FailedAndUnresolvableNodes"]) == ["cpu", "old", "unknown"]
    _, scores = await extender.post("prioritize", body)
    assert [entry["Host"] for entry in scores] == NAMES


@pytest.mark.parametrize("estimate", ["20GB", "-5", "0", "", "1e9", "0x10", "9" * 40])
async def test_an_estimate_that_is_no_number_keeps_the_pod_pending_with_the_reason(
    extender: Extender, estimate: str
) -> None:
    """On every node, so that an extender that may be ignored is not ignored for it."""
    refused = await extender.refused(a_pod_of(estimate))
    assert sorted(refused) == sorted(NAMES)
    assert "write a whole number of MiB above 0, such as 20480" in refused["new"]


async def test_an_estimate_larger_than_any_card_and_gpus_of_two_vendors_have_their_reasons(
    extender: Extender,
) -> None:
    """Neither overflows, neither is guessed at."""
    assert "has 24560 MiB in all" in (await extender.refused(a_pod_of("9" * 18)))["new"]
    assert "two vendors" in (await extender.refused(a_pod_of("9", nvidia="1", amd="1")))["new"]


@pytest.mark.parametrize(
    ("body", "error"),
    [
        (b"", "cannot be read"),
        (b"\xff", "cannot be read"),
        (b"[]", "cannot be read"),
        (b"[" * 100_000, "cannot be read"),
        (b"{}", "the request has no Pod"),
        (b'{"Pod": {"metadata": {}}}', "neither Nodes nor NodeNames"),
        (b'{"Pod": {"metadata": {}}, "NodeNames": 5}', "cannot be read"),
        (b'{"Pod": {"metadata": {}}, "Nodes": {"items": [7]}}', "cannot be read"),
        (b'{"Pod": 1, "NodeNames": []}', "cannot be read"),
    ],
)
async def test_bad_input_is_answered_with_an_error(extender: Extender, body: bytes, error: str) -> None:
    """In the result of a filter; scores have no place for it but the status. What comes next is answered."""
    status, result = await extender.post("filter", body)
    assert status == 200
    assert error in result["Error"]
    status, result = await extender.post("prioritize", body)
    assert status == 400
    assert error in result["Error"]
    assert await extender.refused(a_pod_of("20000"), ["new"]) == {}


async def test_before_the_state_is_complete_nothing_is_judged() -> None:
    """The scheduler tries again."""
    async with TestClient(TestServer(ExtenderServer().application(lambda: NOW))) as client:
        body = {"pod": a_pod_of("20000"), "nodenames": ["new"]}
        async with client.post("/filter", json=body) as response:
            assert "has not read the state stream yet" in (await response.json())["Error"]
        async with client.post("/prioritize", json=body) as response:
            assert response.status == 503


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=4),
    lambda children: (
        st.lists(children, max_size=3)
        | st.dictionaries(
            st.sampled_from(("Pod", "nodes", "NodeNames", "metadata", "items", "spec", "containers", "name")),
            children,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(st.binary(max_size=40) | JSON_VALUES.map(lambda value: json.dumps(value).encode()))
def test_no_body_raises_anything_but_an_error_of_the_protocol(body: bytes) -> None:
    """Whatever is sent."""
    try:
        request = arguments(body)
    except ProtocolError:
        return
    assert isinstance(request.names, tuple)


def test_a_node_is_passed_exactly_where_enough_devices_of_one_vendor_have_room() -> None:
    """By the rule, not by the code: each of its devices has its part of the memory free, is well, and is of one vendor."""
    chance, passed = random.Random(6), 0
    for _ in range(2000):
        cards = [a_card(chance, number) for number in range(chance.randint(0, 4))]
        vendor, count, estimate = (
            chance.choice(["nvidia", "amd", ""]),
            chance.randint(1, 2),
            chance.choice([1, 3000, 7001, 48000]),
        )
        pod = msgspec.convert(
            a_pod_of(str(estimate), **({vendor: str(count)} if vendor else {})), PodToSchedule
        )
        count = count if vendor else 1
        state = a_state(*a_box("n", *cards))
        fitting = [
            sum(d.vendor == v and d.healthy and d.free_mb >= -(-estimate // count) for d in cards)
            for v in ([vendor] if vendor else ["nvidia", "amd"])
        ]
        refused = refusals(pod, ["n"], state, NOW + 1)
        assert (not refused) == (max(fitting) >= count)
        assert scores(pod, ["n"], state, NOW + 1)["n"] in range(11)
        passed += not refused
    assert 400 < passed < 1600


def test_pods_that_request_the_same_keep_one_entry_beside_those_of_the_models() -> None:
    """What a spec asks for is kept, up to a limit: the Pods of a large Job take the place of no Model's."""
    state, before = a_state(*a_box("n", RDNA3)), len(requirements._cached)
    for _ in range(20):
        refusals(msgspec.convert(a_pod_of("3111", amd="1"), PodToSchedule), ["n"], state, NOW + 1)
    assert len(requirements._cached) <= before + 1


def a_card(chance: random.Random, number: int) -> Device:
    """Return a card of either vendor, sometimes unhealthy."""
    free = chance.choice([0, 3000, 7000, 24000])
    vendor, healthy = chance.choice(["nvidia", "amd"]), chance.random() < 0.9
    return Device(uuid=f"GPU-{number}", vendor=vendor, total_mb=24000, free_mb=free, healthy=healthy)
