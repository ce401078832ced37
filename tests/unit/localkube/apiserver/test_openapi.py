"""OpenAPI documents: what kubectl reads from them."""

import http.server
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from localkube.apiserver.discovery import Discovery
from localkube.apiserver.openapi import document
from localkube.apiserver.resources import Object
from tests.definitions import a_registry

GROUPS = sorted({(res.group, res.version) for res in a_registry().resources()})


def references(value: Any) -> Iterator[str]:
    """Yield every reference of a document."""
    if isinstance(value, dict):
        if isinstance(value.get("$ref"), str):
            yield value["$ref"]
        for below in value.values():
            yield from references(below)
    elif isinstance(value, list):
        for below in value:
            yield from references(below)


def operations(group: str, version: str) -> Iterator[tuple[str, str, Object]]:
    """Yield path, method and operation of a document."""
    for path, known in document(a_registry(), group, version)["paths"].items():
        for method, operation in known.items():
            if method != "parameters":
                yield path, method, operation


@pytest.mark.parametrize(("group", "version"), GROUPS)
def test_every_reference_leads_somewhere(group: str, version: str) -> None:
    """A document is whole in itself."""
    made = document(a_registry(), group, version)
    known = {f"#/components/schemas/{name}" for name in made["components"]["schemas"]}
    assert set(references(made)) - known == set()


@pytest.mark.parametrize(("group", "version"), GROUPS)
def test_says_that_writes_can_be_validated_and_run_dry(group: str, version: str) -> None:
    """Without these two parameters kubectl validates by itself, and refuses to diff."""
    names = {
        (path, method): {parameter["name"] for parameter in operation["parameters"]}
        for path, method, operation in operations(group, version)
        if method in ("post", "put", "patch")
    }
    assert [where for where, known in names.items() if not {"fieldValidation", "dryRun"} <= known] == []


@pytest.mark.parametrize(("group", "version"), GROUPS)
def test_every_operation_names_its_kind_and_action(group: str, version: str) -> None:
    """By them kubectl finds a kind's operations."""
    for _, _, operation in operations(group, version):
        kind = operation["x-kubernetes-group-version-kind"]
        assert (kind["group"], kind["version"], bool(operation["x-kubernetes-action"])) == (
            group,
            version,
            True,
        )


def test_publishes_the_model_without_its_rules() -> None:
    """Rules are the server's; int-or-string is published as Kubernetes does."""
    schema = document(a_registry(), "ai.flexinfer", "v1alpha2")["components"]["schemas"][
        "flexinfer.ai.v1alpha2.Model"
    ]
    assert "x-kubernetes-validations" not in str(schema)
    assert schema["properties"]["spec"]["properties"]["cache"]["properties"]["size"]["oneOf"] == [
        {"type": "integer"},
        {"type": "string"},
    ]


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """Serve the discovery of a registry over plain HTTP, and yield its address."""
    discovery = Discovery(a_registry())

    class Face(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            found = discovery.answer(urlsplit(self.path).path, self.headers.get("Accept", ""))
            body = found.body if found else b""
            self.send_response(200 if found else 404)
            self.send_header("Content-Type", found.content_type if found else "text/plain")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 -- as above
            """Say nothing."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Face) as made:
        thread = threading.Thread(target=made.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{made.server_port}"
        made.shutdown()
        thread.join()


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("model.spec.gpu", "enum: auto, nvidia, amd, cpu"),
        ("mdl.spec.serverless.idleTimeout", "How long the model must be without requests"),
        ("model.status.conditions", "-required-"),
        ("pod.spec.containers.readinessProbe", "periodSeconds"),
        ("job.spec", "backoffLimit"),
        ("crd.spec.versions", "additionalPrinterColumns"),
    ],
)
def test_kubectl_explains(server: str, path: str, said: str, tmp_path: Path) -> None:
    """The real kubectl reads the documents."""
    kubectl = Path(sys.executable).parent / "kubectl"
    told = subprocess.run(
        [kubectl, "--server", server, "explain", path],
        env=os.environ | {"HOME": str(tmp_path), "KUBECONFIG": str(tmp_path / "none")},
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    )
    assert said in told.stdout
