"""A Model whose status was written through an earlier CRD: a real API server refuses every server-side apply until it is readable."""

import copy
import json
from pathlib import Path
from typing import Any

import yaml

from tests.cluster.replicas import replicas
from tests.instance import Running, until
from tests.manifests import ROOT

NAME = "earlier"
SECONDS = 30.0


def crd(*, earlier: bool) -> dict[str, Any]:
    """Return the CRD of Models; of an earlier release, in which the devices of a placement were strings."""
    definition: dict[str, Any] = copy.deepcopy(yaml.safe_load((ROOT / "crds" / "models.yaml").read_text()))
    schema = definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    if earlier:
        placement = schema["properties"]["status"]["properties"]["placement"]["properties"]
        placement["devices"] = {"type": "array", "items": {"type": "string"}}
    return definition


def apply(plane: Running, folder: Path, body: dict[str, Any], *words: str) -> None:
    """Apply an object server-side, again and again until it is accepted: a CRD that was changed is in effect a moment later."""
    file = folder / "object.json"
    file.write_text(json.dumps(body))
    command = ("apply", "--server-side", "--force-conflicts", "-f", str(file), *words)
    until(lambda: "serverside-applied" in plane.kubectl(*command, check=False), SECONDS, str(command))


def read(plane: Running) -> dict[str, Any]:
    """Return the Model."""
    model: dict[str, Any] = json.loads(plane.kubectl("get", "mdl", NAME, "-o", "json"))
    return model


async def test_the_watcher_takes_out_what_cannot_be_read_and_the_owners_write_again(
    plane: Running, tmp_path: Path
) -> None:
    """Its node stays; the spec is as valid as before."""
    apply(plane, tmp_path, crd(earlier=True))
    plane.kubectl("wait", "--for=condition=Established", "crd/models.ai.flexinfer", "--timeout=30s")
    model = {"apiVersion": "ai.flexinfer/v1alpha2", "kind": "Model", "metadata": {"name": NAME}}
    apply(plane, tmp_path, model | {"spec": {"backend": "llamacpp", "source": "pvc://m/m.gguf"}})
    placement = {"node": "a", "vendor": "nvidia", "devices": ["GPU-1"]}
    status = ("--subresource=status", "--field-manager=flexinfer-placer")
    apply(plane, tmp_path, model | {"status": {"placement": placement}}, *status)
    async with replicas(plane, tmp_path) as members:
        assert read(plane)["status"]["placement"] == placement
        members.start("watcher", "one")
        until(lambda: "conditions" in read(plane)["status"], SECONDS, "the watcher writes its condition")
        after = read(plane)["status"]
        assert after["placement"] == {"node": "a", "vendor": "nvidia"}
        assert [(c["type"], c["status"]) for c in after["conditions"]] == [("Accepted", "True")]
        members.start("placer", "one")
        until(lambda: len(read(plane)["status"]["conditions"]) > 1, SECONDS, "the placer writes its own")
    plane.kubectl("delete", "mdl", NAME, "--wait=false", check=False)
