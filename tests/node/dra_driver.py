"""A DRA driver of one node with devices that do not exist: publishes a ResourceSlice, gives each container its devices' uuids by CDI.

    python -m tests.node.dra_driver --node node-a --kubeconfig FILE --devices FILE --plugins DIR --cdi DIR

--plugins is kubelet's `<root-dir>/plugins_registry`, --cdi one of containerd's `cdi_spec_dirs`. --devices is a JSON list of the `devices` of a
ResourceSlice; it is read once a second, so a test unplugs, taints or adds a device by writing the file. State lies in the files of --cdi alone,
so the driver may be killed and started at will.
"""

import argparse
import json
import ssl
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc

from tests.node.kubelet_plugin import decode, encode, ended, handler, say, serve

_DRA = "k8s.io.kubelet.pkg.apis.dra.v1.DRAPlugin"
_API = "/apis/resource.k8s.io/v1"
_SECONDS = 10.0


class Api:
    """The API server, as one of the cluster's kubeconfigs names it."""

    def __init__(self, kubeconfig: Path) -> None:
        told = json.loads(kubeconfig.read_text())
        cluster, user = told["clusters"][0]["cluster"], told["users"][0]["user"]
        self._server = cluster["server"]
        self._tls = ssl.create_default_context(cafile=cluster["certificate-authority"])
        self._tls.load_cert_chain(user["client-certificate"], user["client-key"])

    def ask(self, method: str, path: str, body: object = None) -> dict[str, Any] | None:
        """Return the answer; None where there is no such object."""
        request = urllib.request.Request(
            self._server + _API + path,
            data=None if body is None else json.dumps(body).encode(),
            method=method,
            headers={"Content-Type": "application/json", "Accept": "application/json"},
        )
        try:
            with urllib.request.urlopen(request, context=self._tls, timeout=_SECONDS) as answer:
                body_of_answer: dict[str, Any] = json.load(answer)
                return body_of_answer
        except urllib.error.HTTPError as error:
            if error.code == 404:
                return None
            raise RuntimeError(f"{method} {path}: {error.code} {error.read().decode()[:500]}") from error


class Driver:
    """What kubelet calls, and the ResourceSlice."""

    def __init__(self, given: argparse.Namespace) -> None:
        self._given = given
        self._api = Api(given.kubeconfig)
        self._name = f"{given.node}-{given.driver}"
        self._kind = f"{given.driver}/gpu"
        self._published: list[dict[str, Any]] | None = None
        self.socket = given.plugins / f"{given.driver}.sock"

    def publish(self) -> None:
        """Make the slice what the file of devices says; kubelet deletes it when it starts, and 30 s after its driver goes."""
        devices = self._devices()
        ours = f"spec.nodeName={self._given.node},spec.driver={self._given.driver}"  # what a node's own rights allow
        listed = self._api.ask("GET", f"/resourceslices?fieldSelector={ours}") or {"items": []}
        current = next(iter(listed["items"]), None)
        # Compared with what was sent, not with what is stored: a taint comes back with a time.
        if current and devices == self._published:
            return
        generation = current["spec"]["pool"]["generation"] + 1 if current else 1
        body = {
            "apiVersion": "resource.k8s.io/v1",
            "kind": "ResourceSlice",
            "metadata": {"name": self._name},
            "spec": {
                "driver": self._given.driver,
                "nodeName": self._given.node,
                "pool": {"name": self._given.node, "generation": generation, "resourceSliceCount": 1},
                "devices": devices,
            },
        }
        if current is None:
            self._api.ask("POST", "/resourceslices", body)
        else:
            body["metadata"] = {"name": self._name, "resourceVersion": current["metadata"]["resourceVersion"]}
            self._api.ask("PUT", f"/resourceslices/{self._name}", body)
        self._published = devices
        say("published", generation=generation, devices=[device["name"] for device in devices])

    def prepare(self, request: bytes) -> bytes:
        """NodePrepareResources: each claim by its uid, with what its containers get, or with an error."""
        return self._each("prepare", request, self._prepare)

    def unprepare(self, request: bytes) -> bytes:
        """NodeUnprepareResources: may be asked for a claim that was never prepared."""

        def forget(_space: str, uid: str, _name: str) -> bytes:
            self._file(uid).unlink(missing_ok=True)
            return b""

        return self._each("unprepare", request, forget)

    def _each(self, what: str, request: bytes, do: Callable[[str, str, str], bytes]) -> bytes:
        answer, failed = b"", {"prepare": 2, "unprepare": 1}[what]
        for _, claim in decode(request):
            fields = {number: value.decode() for number, value in decode(claim)}
            space, uid, name = fields[1], fields[2], fields[3]
            try:
                done = do(space, uid, name)
                say(what, claim=f"{space}/{name}", uid=uid)
            except Exception as error:  # noqa: BLE001 -- kubelet gets the error, shows it at the Pod and asks again
                done = encode(failed, f"{error}")
                say(what, claim=f"{space}/{name}", error=str(error))
            answer += encode(1, encode(1, uid) + encode(2, done))
        return answer

    def _prepare(self, space: str, uid: str, name: str) -> bytes:
        claim = self._api.ask("GET", f"/namespaces/{space}/resourceclaims/{name}")
        if claim is None or claim["metadata"]["uid"] != uid:
            raise LookupError(f"the claim {space}/{name} of uid {uid} is gone")
        results = [
            result
            for result in claim["status"]["allocation"]["devices"]["results"]
            if result["driver"] == self._given.driver
        ]
        by_name = {device["name"]: device["attributes"]["uuid"]["string"] for device in self._devices()}
        uuids = [by_name[result["device"]] for result in results]  # unplugged: an error that kubelet shows
        taken = [result.get("consumedCapacity", {}).get("memory", "") for result in results]
        shown = [f"{variable}={','.join(uuids)}" for variable in self._given.env.split(",")]
        self._write(uid, [*shown, f"DRA_MEMORY={','.join(taken)}", f"DRA_CLAIM={name}"])
        answer = b""
        for result in results:
            share = encode(5, result["shareID"]) if "shareID" in result else b""
            answer += encode(
                1,
                encode(1, result["request"])
                + encode(2, result["pool"])
                + encode(3, result["device"])
                + encode(4, f"{self._kind}={uid}")
                + share,
            )
        return answer

    def _write(self, uid: str, variables: list[str]) -> None:
        """Write a claim's CDI file, whole or not at all: the runtime reads the folder at any time."""
        content = {
            "cdiVersion": "0.6.0",
            "kind": self._kind,
            "devices": [{"name": uid, "containerEdits": {"env": variables}}],
        }
        draft = self._file(uid).with_suffix(".draft")
        draft.write_text(json.dumps(content))
        draft.replace(self._file(uid))

    def _devices(self) -> list[dict[str, Any]]:
        devices: list[dict[str, Any]] = json.loads(self._given.devices.read_text())
        return devices

    def _file(self, uid: str) -> Path:
        return Path(self._given.cdi) / f"{self._given.driver}-{uid}.json"

    def start(self) -> grpc.Server:
        """Listen where kubelet looks for plugins; it comes by itself, asks for the name and calls back on the same socket."""
        info = (
            encode(1, "DRAPlugin")
            + encode(2, self._given.driver)
            + encode(3, str(self.socket))
            + encode(4, "v1.DRAPlugin")
        )

        def registered(status: bytes) -> bytes:
            say("registered", error=dict(decode(status)).get(2, b"").decode())
            return b""

        return serve(
            self.socket,
            (
                handler(
                    "pluginregistration.Registration",
                    GetInfo=lambda _: info,
                    NotifyRegistrationStatus=registered,
                ),
                handler(_DRA, NodePrepareResources=self.prepare, NodeUnprepareResources=self.unprepare),
            ),
        )


def main() -> None:
    """Serve until told to end."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name in ("kubeconfig", "devices", "plugins", "cdi"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--node", required=True)
    parser.add_argument("--driver", default="gpu.flexinfer.test")
    parser.add_argument("--env", default="NVIDIA_VISIBLE_DEVICES,CUDA_VISIBLE_DEVICES")
    given = parser.parse_args()
    given.cdi.mkdir(parents=True, exist_ok=True)
    over, driver = ended(), Driver(given)
    server = driver.start()
    while not over.wait(1.0):
        try:
            driver.publish()
        except (RuntimeError, OSError, ValueError) as error:
            say("publish", error=str(error))
    server.stop(1.0).wait()
    driver.socket.unlink(missing_ok=True)
    say("ended")


if __name__ == "__main__":
    main()
