"""The local API's process over plain HTTP: durability, ends, limits, and logs from a node."""

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

pytestmark = pytest.mark.integration
MAPS = "/api/v1/namespaces/default/configmaps"


@pytest.fixture
def own_api(tmp_path: Path) -> Iterator[LocalApi]:
    """Start a local API that a test may end."""
    api = start_local_api(tmp_path / "state")
    yield api
    kill_local_api(api)


def a_map(name: str, **data: str) -> dict[str, Any]:
    """Return a ConfigMap."""
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data}


def create(api: LocalApi, name: str, **data: str) -> dict[str, Any]:
    """Create a ConfigMap."""
    made: dict[str, Any] = json.loads(api.open(MAPS, method="POST", body=a_map(name, **data)))
    return made


def refusal(call: Callable[[], object]) -> dict[str, Any]:
    """Return the Status of a request that is refused."""
    with pytest.raises(urllib.error.HTTPError) as refused:
        call()
    with refused.value as answer:
        status: dict[str, Any] = json.loads(answer.read())
    assert status["kind"] == "Status"
    assert status["code"] == refused.value.code
    return status


def test_what_was_acknowledged_is_there_after_a_kill(own_api: LocalApi) -> None:
    """With its uid and version, and a watch goes on from the version it knew."""
    made = create(own_api, "kept", a="b")
    own_api.stop(signal.SIGKILL)
    again = start_local_api(own_api.state, own_api.port)
    try:
        assert json.loads(again.open(f"{MAPS}/kept")) == made
        version = made["metadata"]["resourceVersion"]
        with Stream(again, f"{MAPS}?watch=true&resourceVersion={version}") as stream:
            create(again, "later")
            event = stream.next()
            assert (event["type"], event["object"]["metadata"]["name"]) == ("ADDED", "later")
    finally:
        kill_local_api(again)


def test_sigterm_ends_watches_cleanly_and_at_once(own_api: LocalApi) -> None:
    """Exit code 0; the stream ends, it does not break."""
    with Stream(own_api, f"{MAPS}?watch=True") as stream:
        create(own_api, "one")
        assert stream.next()["type"] == "ADDED"
        assert own_api.stop() == 0
        assert stream.next() == {}


def settled_size(file: Path) -> int:
    """Return a file's size once it has not grown for a while: the controllers have written what a start makes them write."""
    size = -1
    while size != (size := file.stat().st_size):
        time.sleep(0.3)
    return size


def test_a_journal_that_cannot_be_written_ends_the_process(own_api: LocalApi) -> None:
    """What is not on disk is never told: the write is refused, and the process says why it goes."""
    size = settled_size(own_api.state / "api.journal")
    resource.prlimit(own_api.process.pid, resource.RLIMIT_FSIZE, (size + 10, size + 10))
    status = refusal(lambda: create(own_api, "lost"))
    assert status["code"] == 500
    assert own_api.process.wait(10) == 1
    assert "api.journal" in (own_api.state / "api.log").read_text()


def test_a_second_process_on_the_same_journal_is_refused(local_api: LocalApi, tmp_path: Path) -> None:
    """Two writers would tear it."""
    with pytest.raises(AssertionError, match="journal"):
        start_local_api(local_api.state)
    (local_api.state / "port").write_text(str(local_api.port))


def test_health_needs_no_token_and_all_else_does(local_api: LocalApi) -> None:
    """And nothing is told to the curious."""
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
def test_what_is_not_offered_or_not_understood_is_a_status(
    local_api: LocalApi, method: str, path: str, code: int
) -> None:
    """Never a trace, never a hang."""
    assert refusal(lambda: local_api.open(path, method=method))["code"] == code


def test_bodies_are_bounded_and_typed(local_api: LocalApi) -> None:
    """413, 415 and 400, and the server goes on."""
    huge = a_map("huge", a="x" * (3 * 1024 * 1024))
    assert refusal(lambda: local_api.open(MAPS, method="POST", body=huge))["code"] == 413
    typed = {"Content-Type": "text/plain"}
    assert refusal(lambda: local_api.open(MAPS, method="POST", body={}, **typed))["code"] == 415
    assert refusal(lambda: local_api.open(MAPS, method="POST", body=[1]))["code"] == 400
    strategic = {"Content-Type": "application/strategic-merge-patch+json"}
    model = "/apis/ai.flexinfer/v1alpha2/namespaces/default/models/x"
    assert refusal(lambda: local_api.open(model, method="PATCH", body={}, **strategic))["code"] == 415


def test_a_large_list_comes_in_pages(local_api: LocalApi, kubectl: Kubectl) -> None:
    """Each of the same version, with what remains."""
    path = f"/api/v1/namespaces/{kubectl.namespace}/configmaps"
    for number in range(5):
        local_api.open(path, method="POST", body=a_map(f"m{number}"))
    first = json.loads(local_api.open(f"{path}?limit=2"))
    local_api.open(path, method="POST", body=a_map("m9"))
    rest = json.loads(local_api.open(f"{path}?limit=9&continue={first['metadata']['continue']}"))
    assert first["metadata"]["remainingItemCount"] == 3
    assert rest["metadata"]["resourceVersion"] == first["metadata"]["resourceVersion"]
    assert [item["metadata"]["name"] for item in rest["items"]] == ["m2", "m3", "m4"]
    local_api.open(path, method="DELETE", body=None)
    assert json.loads(local_api.open(path))["items"] == []


def test_unknown_fields_are_warned_of(local_api: LocalApi, kubectl: Kubectl) -> None:
    """Unless a client asks for more, or for less."""
    odd = json.dumps(a_map("odd") | {"flavour": "sweet"})
    warned = kubectl.run("create", "-f", "-", "--validate=warn", stdin=odd)
    assert (warned.code, warned.err) == (0, 'Warning: unknown field "flavour"\n')


async def test_logs_come_from_the_node_as_they_are_written(kubectl: Kubectl, local_api: LocalApi) -> None:
    """Followed over TLS with the token, to the end; the node's refusals in its own words."""
    asked: list[tuple[str, str]] = []

    async def answer(request: web.Request) -> web.StreamResponse:
        asked.append((request.path_qs, request.headers["Authorization"]))
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
    assert asked[0] == (f"{path}?follow=true&tailLines=5", f"Bearer {TOKEN}")


class node_on:  # noqa: N801 -- reads as what it does
    """A node that serves logs by a handler, for the length of a block."""

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
    """Make a Pod that is on a node already."""
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "p"},
        "spec": {"nodeName": node, "containers": [{"name": "engine", "image": "example.com/engine:1"}]},
    }
    api.open(f"/api/v1/namespaces/{kubectl.namespace}/pods", method="POST", body=pod)
