"""`flexinfer --context NAME` on a real cluster: kubectl's own port-forward through kubelet, with the Secrets of the installation."""

import json
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.instance import BIN
from tests.node.layout import FIRST
from tests.node.product import SYSTEM, Product

CONTEXT, STRANGER = "cluster", "stranger"
Flexinfer = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="module")
def serving(product: Product) -> Iterator[Product]:
    """Return the product with a Model that is ready."""
    product.model("seen")
    product.ready("seen")
    yield product
    product.delete("seen")


@pytest.fixture(scope="module")
def flexinfer(serving: Product, tmp_path_factory: pytest.TempPathFactory) -> Flexinfer:
    """Return what runs a command with two contexts: the administrator's, and one of an account that is bound to nothing yet."""
    folder = tmp_path_factory.mktemp("context")
    config = json.loads(serving.kubectl("config", "view", "--raw", "-o", "json"))
    serving.kubectl("create", "serviceaccount", STRANGER, "-n", "default")
    token = serving.kubectl("create", "token", STRANGER, "-n", "default").strip()
    current = next(c for c in config["contexts"] if c["name"] == config["current-context"])["context"]
    config["contexts"] = [
        {"name": CONTEXT, "context": current},
        {"name": STRANGER, "context": current | {"user": STRANGER}},
    ]
    config["users"].append({"name": STRANGER, "user": {"token": token}})
    config["current-context"] = ""
    (folder / "config").write_text(json.dumps(config))
    environment = os.environ | {
        "KUBECONFIG": str(folder / "config"),
        "HOME": str(folder),
        "PATH": f"{BIN}:{os.environ['PATH']}",
    }

    def run(*words: str) -> "subprocess.CompletedProcess[str]":
        command = [str(BIN / "flexinfer"), *words]
        return subprocess.run(
            command, env=environment, capture_output=True, text=True, check=False, timeout=120
        )

    return run


def test_chat_gets_an_answer_through_a_port_forward(flexinfer: Flexinfer) -> None:
    """With the key of the Secret, and no kubectl is left behind."""
    done = flexinfer(
        "--context", CONTEXT, "chat", "seen", "What is the capital of France?", "--temperature", "0"
    )
    assert "Paris" in done.stdout, done.stderr
    assert done.returncode == 0
    assert not _port_forwards()


def test_gpus_and_why_answer(flexinfer: Flexinfer) -> None:
    """NATS by its own port-forward and TLS, the Model by the API server."""
    assert FIRST.name in flexinfer("--context", CONTEXT, "gpus").stdout
    assert "default/seen is Ready" in flexinfer("--context", CONTEXT, "why", "seen").stdout


def test_tap_refuses_what_it_may_not_read(flexinfer: Flexinfer) -> None:
    """NATS itself refuses it."""
    refused = flexinfer("--context", CONTEXT, "tap", "$SYS.>")
    assert refused.returncode == 1
    assert "tap may not read $SYS.>" in refused.stderr
    assert not _port_forwards()


def test_the_roles_that_a_refusal_names_are_enough(flexinfer: Flexinfer, serving: Product) -> None:
    """The two bindings of the documentation are enough for chat, tap, gpus and why."""
    refused = flexinfer("--context", STRANGER, "chat", "seen", "hello")
    assert refused.returncode == 1
    assert "bind the Role flexinfer-client" in refused.stderr
    account = f"--serviceaccount=default:{STRANGER}"
    serving.kubectl("create", "clusterrolebinding", STRANGER, "--clusterrole=flexinfer-client", account)
    serving.kubectl("create", "rolebinding", STRANGER, "--role=flexinfer-client", account, "-n", SYSTEM)
    done = flexinfer(
        "--context", STRANGER, "chat", "seen", "What is the capital of France?", "--temperature", "0"
    )
    assert "Paris" in done.stdout, done.stderr
    assert flexinfer("--context", STRANGER, "gpus").returncode == 0
    assert "default/seen is Ready" in flexinfer("--context", STRANGER, "why", "seen").stdout


def _port_forwards() -> list[str]:
    """Return the command lines of the port-forwards that run on this machine."""
    lines = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().split(b"\0")
        except OSError:
            continue
        if b"port-forward" in words:
            lines.append(" ".join(word.decode() for word in words))
    return lines
