"""What of a Pod keeps the prompt caches of its engine: a folder on the Model's claim, and the container that prepares it. Pure."""

from typing import Any

from flexinfer.api.model import Model
from flexinfer.backends.base import PROMPTS
from flexinfer.sources import pod
from flexinfer.sources.base import MOUNT

Json = dict[str, Any]


def folder(model: Model) -> str:
    """Return the folder on the claim: another one for a Model that is made again under the same name."""
    return f".flexinfer/prompts-{model.uid}"


def mount(model: Model) -> Json:
    """Return the engine's mount of it."""
    return {"name": pod.WEIGHTS, "mountPath": PROMPTS, "subPath": folder(model)}


def container(model: Model, image: str, room_mb: int) -> Json:
    """Return the init container that makes the folder, readable by its owner alone, and deletes the oldest files beyond the room."""
    return {
        "name": "prompts",
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "command": ["python", "-m", "flexinfer.prefetcher.prompts"],
        "args": ["--folder", f"{MOUNT}/{folder(model)}", "--room-mb", str(room_mb)],
        "volumeMounts": [{"name": pod.WEIGHTS, "mountPath": MOUNT}],
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "resources": {
            "requests": {"cpu": "10m", "memory": "32Mi"},
            "limits": {"cpu": "1", "memory": "128Mi"},
        },
        "securityContext": dict(pod.HARDENED),
    }
