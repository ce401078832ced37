"""A device plugin of one node with devices that do not exist: an extended resource whose Allocate gives a container its devices' uuids.

    python -m tests.node.device_plugin --plugins /var/lib/kubelet/device-plugins --devices FILE [--resource nvidia.com/gpu] [--replicas 1]

--devices is the file of `dra_driver`, read once a second; a device with `"unhealthy": true` is reported as such. With --replicas above one each
device is listed so many times (`GPU-aaaa::0`), as a vendor's time slicing does it. kubelet takes that folder from no setting: run this in
the node's view of the files.
"""

import argparse
import json
import threading
from collections.abc import Iterator
from pathlib import Path

import grpc

from tests.node.kubelet_plugin import decode, encode, ended, handler, say, serve

_SERVICE = "v1beta1.DevicePlugin"
_SECONDS = 5.0


class Plugin:
    """What kubelet calls."""

    def __init__(self, given: argparse.Namespace, over: threading.Event) -> None:
        self._given, self._over = given, over
        self.name = f"{given.resource.replace('/', '_')}.sock"

    def devices(self) -> bytes:
        """Return all devices, as ListAndWatch tells them."""
        listed = b""
        for device in json.loads(self._given.devices.read_text()):
            uuid, health = (
                device["attributes"]["uuid"]["string"],
                "Unhealthy" if device.get("unhealthy") else "Healthy",
            )
            for number in range(self._given.replicas):
                shown = uuid if self._given.replicas == 1 else f"{uuid}::{number}"
                listed += encode(1, encode(1, shown) + encode(2, health))
        return listed

    def watch(self, _request: bytes, context: grpc.ServicerContext) -> Iterator[bytes]:
        """ListAndWatch: all devices now, and again whenever they are others."""
        last = None
        while context.is_active() and not self._over.is_set():
            if (now := self.devices()) != last:
                yield now
                last = now
            self._over.wait(1.0)

    def allocate(self, request: bytes) -> bytes:
        """Allocate: what the environment of each container has to say."""
        answer = b""
        for _, container in decode(request):
            taken = [value.decode() for _, value in decode(container)]
            uuids = ",".join(dict.fromkeys(one.partition("::")[0] for one in taken))
            variables = b"".join(
                encode(1, encode(1, name) + encode(2, uuids)) for name in self._given.env.split(",")
            )
            answer += encode(1, variables)
            say("allocate", devices=taken)
        return answer

    def start(self) -> grpc.Server:
        """Listen, and tell kubelet where."""
        unary = handler(
            _SERVICE,
            GetDevicePluginOptions=lambda _: b"",
            Allocate=self.allocate,
            PreStartContainer=lambda _: b"",
        )
        watching = {"ListAndWatch": grpc.unary_stream_rpc_method_handler(self.watch)}
        server = serve(
            self._given.plugins / self.name, (unary, grpc.method_handlers_generic_handler(_SERVICE, watching))
        )
        with grpc.insecure_channel(f"unix://{self._given.plugins / 'kubelet.sock'}") as channel:
            register = channel.unary_unary("/v1beta1.Registration/Register")
            register(
                encode(1, "v1beta1") + encode(2, self.name) + encode(3, self._given.resource),
                timeout=_SECONDS,
            )
        say("registered", resource=self._given.resource)
        return server


def main() -> None:
    """Serve until asked to end; a kubelet that starts again empties the folder, and the plugin registers again."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--plugins", type=Path, required=True)
    parser.add_argument("--devices", type=Path, required=True)
    parser.add_argument("--resource", default="nvidia.com/gpu")
    parser.add_argument("--replicas", type=int, default=1)
    parser.add_argument("--env", default="NVIDIA_VISIBLE_DEVICES,CUDA_VISIBLE_DEVICES")
    given = parser.parse_args()
    over = ended()
    plugin = Plugin(given, over)
    server: grpc.Server | None = None
    while not over.wait(0.5):
        if server is not None and (given.plugins / plugin.name).exists():
            continue
        try:
            if server is not None:
                server.stop(0).wait()
            server = plugin.start()
        except grpc.RpcError as error:
            say("register", error=str(error.code()))
    if server is not None:
        server.stop(1.0).wait()
    (given.plugins / plugin.name).unlink(missing_ok=True)
    say("ended")


if __name__ == "__main__":
    main()
