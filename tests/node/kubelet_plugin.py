"""What a plugin of kubelet needs besides grpcio: protobuf's wire format, as far as kubelet's messages go, and a server on a socket.

Those messages hold strings, messages and maps of strings, so no generated code is needed.
"""

import json
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc


def encode(number: int, value: bytes | str) -> bytes:
    """Return one field that holds text or a message."""
    content = value.encode() if isinstance(value, str) else value
    return bytes([number << 3 | 2]) + _varint(len(content)) + content


def decode(message: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield the fields of a message that hold text or a message; numbers are passed over."""
    at = 0
    while at < len(message):
        key, at = _read(message, at)
        size, at = _read(message, at)
        if key & 7 == 2:
            yield key >> 3, message[at : at + size]
            at += size
        elif key & 7:
            raise ValueError(f"wire type {key & 7}")


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    return bytes([*out, number])


def _read(message: bytes, at: int) -> tuple[int, int]:
    number = shift = 0
    while True:
        number |= (message[at] & 127) << shift
        shift, at = shift + 7, at + 1
        if message[at - 1] < 128:
            return number, at


def handler(service: str, **calls: Callable[[bytes], bytes]) -> grpc.GenericRpcHandler:
    """Return what answers the calls of a service, bytes for bytes."""
    answers = {
        name: grpc.unary_unary_rpc_method_handler(lambda request, _, do=do: do(request))
        for name, do in calls.items()
    }
    return grpc.method_handlers_generic_handler(service, answers)


def serve(socket: Path, handlers: tuple[grpc.GenericRpcHandler, ...]) -> grpc.Server:
    """Listen at a socket; one that a killed driver left is taken over."""
    socket.unlink(missing_ok=True)
    server = grpc.server(ThreadPoolExecutor(4), handlers=handlers)
    server.add_insecure_port(f"unix://{socket}")
    server.start()
    return server


def ended() -> threading.Event:
    """Return what is set once this process is asked to end."""
    over = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: over.set())
    return over


def say(what: str, **facts: object) -> None:
    """Print a line for the log."""
    sys.stdout.write(f"{json.dumps({'what': what, **facts})}\n")
    sys.stdout.flush()
