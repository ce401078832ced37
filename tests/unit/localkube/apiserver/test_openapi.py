"""OpenAPI v3 documents, checked for what kubectl reads from them."""

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
from tests.patience import patient

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
    for path, item in document(a_registry(), group, version)["paths"].items():
        for method, operation in item.items():
            if method != "parameters":
                yield path, method, operation


@pytest.mark.parametrize(("group", "version"), GROUPS)
def test_every_reference_resolves(group: str, version: str) -> None:
    """Within the document itself."""
    content = document(a_registry(), group, version)
    schemas = {f"#/components/schemas/{name}" for name in content["components"]["schemas"]}
    assert set(references(content)) - schemas == set()


@pytest.mark.parametrize(("group", "version"), GROUPS)
def test_writes_support_field_validation_and_dry_run(group: str, version: str) -> None:
    """Without these parameters kubectl validates on the client, and refuses to diff."""
    names = {
        (path, method): {parameter["name"] for parameter in operation["parameters"]}
        for path, method, operation in operations(group, version)
        if method in ("post", "put", "patch")
    }
    assert [key for key, parameters in names.items() if not {"fieldValidation", "dryRun"} <= parameters] == []


@pytest.mark.parametrize(("group", "version"), GROUPS)
def test_every_operation_names_its_kind_and_action(group: str, version: str) -> None:
    """Kubectl finds the operations of a kind by them."""
    for _, _, operation in operations(group, version):
        kind = operation["x-kubernetes-group-version-kind"]
        assert (kind["group"], kind["version"], bool(operation["x-kubernetes-action"])) == (
            group,
            version,
            True,
        )


def test_publishes_the_model_without_its_rules() -> None:
    """CEL rules are not published; int-or-string is published as `oneOf`, as in Kubernetes."""
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

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            answer = discovery.answer(urlsplit(self.path).path, self.headers.get("Accept", ""))
            body = answer.body if answer else b""
            self.send_response(200 if answer else 404)
            self.send_header("Content-Type", answer.content_type if answer else "text/plain")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 -- as above
            """Log nothing."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http_server:
        thread = threading.Thread(target=http_server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{http_server.server_port}"
        http_server.shutdown()
        thread.join()


@pytest.mark.parametrize(
    ("path", "line"),
    [
        ("model.spec.gpu", "enum: auto, nvidia, amd, cpu"),
        ("mdl.spec.serverless.idleTimeout", "How long the model must be without requests"),
        ("model.status.conditions", "-required-"),
        ("pod.spec.containers.readinessProbe", "periodSeconds"),
        ("job.spec", "backoffLimit"),
        ("crd.spec.versions", "additionalPrinterColumns"),
    ],
)
def test_kubectl_explains(server: str, path: str, line: str, tmp_path: Path) -> None:
    """The real kubectl reads the documents."""
    kubectl = Path(sys.executable).parent / "kubectl"
    explained = subprocess.run(
        [kubectl, "--server", server, "explain", path],
        env=os.environ | {"HOME": str(tmp_path), "KUBECONFIG": str(tmp_path / "none")},
        capture_output=True,
        text=True,
        check=True,
        timeout=patient(30),
    )
    assert line in explained.stdout
