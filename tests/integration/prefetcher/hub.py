"""A Hugging Face Hub on loopback: one repository, as much of the protocol as the real client needs, and faults.

Files that end in .gguf or .safetensors are LFS files: their digest is in the listing, and their bytes come from another
address than the hub's, as from a CDN.
"""

import functools
import hashlib
import http.server
import json
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any
from urllib.parse import unquote

from tests.patience import patient

SHA = "0123456789abcdef0123456789abcdef01234567"
OTHER = "fedcba9876543210fedcba9876543210fedcba98"
REPOSITORY = "org/tiny"
LFS = (".gguf", ".safetensors")
GGUF = b"GGUF" + (3).to_bytes(4, "little") + bytes(16)
FILES = {
    "config.json": b'{"a": 1}',
    "m-Q4.gguf": GGUF + b"4" * 300_000,
    "m-Q8.gguf": GGUF + b"8" * 300_000,
    "README.md": b"hi",
}
_BLOCK = 64 * 1024


class Hub:
    """The state of the hub: its files, faults to inject, and what was asked of it."""

    gated = False

    token = ""
    """The token that a gated repository needs."""

    whole = False
    """Whether requests for a part are answered with everything."""

    proxied = 0
    """Requests that came as to a proxy, with the whole address; the hub's own server answers for the CDN then."""

    cdn_fault = ""
    """What the CDN answers: `loop`, `304`, or `elsewhere`, a place that is none; empty: the file."""

    repository = REPOSITORY
    """The one that it has; empty: every one, all with the same files."""

    status = 0
    """The status of every answer of the hub itself; 0: none."""

    page = b""
    """What it answers in place of a listing, as a sign-in page of a network does; empty: the listing."""

    def __init__(self) -> None:
        self.address = self.cdn = ""
        self.files: dict[str, bytes] = dict(FILES)
        self.commit = SHA
        self.requests: list[str] = []
        """Method and path of every request, query aside."""
        self.tokens: list[tuple[str, str]] = []
        """(`hub` or `cdn`, the token) of every request that carried one."""
        self.sent: dict[str, int] = {}
        """Bytes of each file that were sent."""
        self.sent_bytes = threading.Condition()
        self.cdn_statuses: list[int] = []
        """The statuses of the next answers of the CDN."""
        self.corrupt: set[str] = set()
        """Files that are sent with a wrong byte."""
        self.silent_after: int | None = None
        """Bytes of each answer after which nothing comes, on an open connection."""
        self.cut_after: int | None = None
        """Bytes of each answer after which the connection is closed."""
        self.hold_at: int | None = None
        """Bytes in all after which nothing is sent until `release`."""
        self.holding = threading.Event()
        self.holding.set()

    @property
    def fetched(self) -> list[str]:
        """The files of which bytes were sent."""
        return [name for name, size in self.sent.items() if size]

    def hold_after(self, size: int) -> None:
        """Stop sending after some bytes in all: what is not to be finished cannot be, however fast the machine is."""
        self.hold_at = size

    def release(self) -> None:
        """Continue sending."""
        self.hold_at = None
        self.holding.set()

    def count(self, name: str, size: int) -> None:
        """Count bytes that were sent."""
        with self.sent_bytes:
            self.sent[name] = self.sent.get(name, 0) + size
            if self.hold_at is not None and sum(self.sent.values()) >= self.hold_at:
                self.holding.clear()
            self.sent_bytes.notify_all()

    def wait_sent(self, size: int, seconds: float = 30.0) -> None:
        """Wait until as many bytes have been sent in all; no longer than several times `seconds`."""
        with self.sent_bytes:
            assert self.sent_bytes.wait_for(lambda: sum(self.sent.values()) >= size, patient(seconds))

    def has(self, path: str) -> bool:
        """Return whether a path begins with a repository that it has."""
        return not self.repository or path.startswith(self.repository)


@contextmanager
def served(tls: ssl.SSLContext | None = None) -> Iterator[Hub]:
    """Serve a hub and its CDN on free ports of loopback; with a context, by HTTPS."""
    hub = Hub()

    class Main(_Main):
        pass

    class Bytes(Cdn):
        pass

    Main.hub = Bytes.hub = hub
    with listening(Main, tls) as hub.address, listening(Bytes, tls) as hub.cdn:
        try:
            yield hub
        finally:
            hub.holding.set()


@contextmanager
def listening(handler: type["Handler"], tls: ssl.SSLContext | None = None) -> Iterator[str]:
    """Serve requests on a free port of loopback; yields its address."""
    server = _Server(("127.0.0.1", 0), handler)
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield f"http{'s' if tls is not None else ''}://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Server(http.server.ThreadingHTTPServer):
    request_queue_size = 128
    block_on_close = False

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing: a client that was killed broke its connection."""


class Handler(http.server.BaseHTTPRequestHandler):
    """What all servers of a hub have in common."""

    hub: Hub
    protocol_version = "HTTP/1.1"
    place = ""
    for_cdn = False

    def log_message(self, *_: Any) -> None:
        """Log nothing."""

    def note(self) -> str:
        """Record the request; returns its path."""
        if self.path.startswith("http://"):
            self.hub.proxied += 1
            host, self.path = self.path.removeprefix("http://").split("/", 1)
            self.path = f"/{self.path}"
            self.for_cdn = f"http://{host}" == self.hub.cdn
        path = unquote(self.path.split("?")[0])
        self.hub.requests.append(f"{self.command} {path}")
        if token := self.headers.get("Authorization", "").removeprefix("Bearer "):
            self.hub.tokens.append((self.place, token))
        return path

    def reply(self, code: int, body: bytes = b"", headers: dict[str, str] | None = None) -> None:
        """Send an answer."""
        self.send_response(code)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def send_file(self, name: str) -> None:
        """Send a file, or the part that was asked for, with the faults of the hub."""
        data = self.hub.files[name]
        if name in self.hub.corrupt:
            data = (
                bytes([data[0] ^ 1]) + data[1:]
                if not name.endswith(LFS)
                else data[:-1] + bytes([data[-1] ^ 1])
            )
        start, end, code = 0, len(data), 200
        requested = self.headers.get("Range")
        if requested and not self.hub.whole:
            first, last = requested.removeprefix("bytes=").split("-")
            start, end, code = int(first), min(end, int(last or end) + 1), 206
        self.send_response(code)
        self.send_header("ETag", f'"{digest(data)}"')
        self.send_header("X-Repo-Commit", self.hub.commit)
        self.send_header("Content-Length", str(end - start))
        if code != 200:
            self.send_header("Content-Range", f"bytes {start}-{end - 1}/{len(data)}")
        self.end_headers()
        if self.command != "HEAD":
            self._send(name, data[start:end])

    def _send(self, name: str, data: bytes) -> None:
        hub, sent = self.hub, 0
        for position in range(0, len(data), _BLOCK):
            hub.holding.wait()
            block = data[position : position + _BLOCK]
            if hub.silent_after is not None and sent + len(block) > hub.silent_after:
                hub.holding.clear()
                hub.holding.wait()
            if hub.cut_after is not None and sent + len(block) > hub.cut_after:
                self.wfile.write(block[: hub.cut_after - sent])
                hub.count(name, hub.cut_after - sent)
                self.wfile.flush()
                with suppress(OSError):
                    self.connection.shutdown(socket.SHUT_RDWR)
                self.close_connection = True
                return
            self.wfile.write(block)
            hub.count(name, len(block))
            sent += len(block)


class _Main(Handler):
    place = "hub"

    def do_HEAD(self) -> None:
        """Answer as to GET, without a body."""
        self.do_GET()

    def do_GET(self) -> None:
        """Answer with a part of the API or a file."""
        self.for_cdn = False
        path = self.note()
        if self.for_cdn:
            self.send_file(path.removeprefix("/"))
        elif self.hub.status:
            self.reply(self.hub.status, headers={"Retry-After": "7"})
        elif path.startswith("/api/models/") and self.hub.has(path.removeprefix("/api/models/")):
            self._describe(path)
        elif path.split("/")[3:4] == ["resolve"] and self.hub.has(path.removeprefix("/")):
            self._file(path.split("/", 5)[5])
        else:
            self.reply(404, b"", {"X-Error-Code": "RepoNotFound"})

    def _describe(self, path: str) -> None:
        token = self.headers.get("Authorization", "").removeprefix("Bearer ")
        if self.hub.gated and (not self.hub.token or token != self.hub.token):
            self.reply(403, b"", {"X-Error-Code": "GatedRepo"})
            return
        if path.endswith("/revision/missing"):
            self.reply(404, b"", {"X-Error-Code": "RevisionNotFound"})
            return
        sha = OTHER if path.endswith("/revision/v2") else self.hub.commit
        if "/tree/" in path:
            entries = [_entry(name, data) for name, data in self.hub.files.items()]
            self.reply(200, json.dumps(entries).encode(), {"Content-Type": "application/json"})
            return
        if self.hub.page:
            self.reply(200, self.hub.page)
            return
        siblings = [_sibling(name, data) for name, data in self.hub.files.items()]
        name = "/".join(path.removeprefix("/api/models/").split("/")[:2])
        body = {"id": name, "modelId": name, "sha": sha, "siblings": siblings, "tags": []}
        self.reply(200, json.dumps(body).encode(), {"Content-Type": "application/json"})

    def _file(self, name: str) -> None:
        data = self.hub.files.get(name)
        if data is None:
            self.reply(404, b"", {"X-Error-Code": "EntryNotFound"})
        elif name.endswith(LFS):
            sha256 = digest(data)
            headers = {
                "Location": f"{self.hub.cdn}/{name}?signature=x",
                "X-Linked-Etag": f'"{sha256}"',
                "X-Linked-Size": str(len(data)),
                "X-Repo-Commit": self.hub.commit,
            }
            self.reply(302, b"", headers)
        else:
            self.send_file(name)


class Cdn(Handler):
    """The server of large files."""

    place = "cdn"

    def do_HEAD(self) -> None:
        """Answer as to GET, without a body."""
        self.do_GET()

    def do_GET(self) -> None:
        """Answer with a file."""
        name = self.note().removeprefix("/")
        if self.hub.cdn_statuses:
            self.reply(self.hub.cdn_statuses.pop(0))
        elif self.hub.cdn_fault == "304":
            self.reply(304)
        elif self.hub.cdn_fault:
            there = self.path if self.hub.cdn_fault == "loop" else "http://127.0.0.1:9/x"
            self.reply(302, headers={"Location": there})
        else:
            self.send_file(name)


@functools.lru_cache(maxsize=16)
def digest(data: bytes) -> str:
    """Return the sha256 of some bytes."""
    return hashlib.sha256(data).hexdigest()


@functools.lru_cache(maxsize=16)
def _blob(data: bytes) -> str:
    """Return git's own id of some bytes."""
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()  # noqa: S324


def _sibling(name: str, data: bytes) -> dict[str, Any]:
    """Return a file as a listing with `blobs=true` has it."""
    described: dict[str, Any] = {"rfilename": name, "size": len(data), "blobId": _blob(data)}
    if name.endswith(LFS):
        sha256 = digest(data)
        described["lfs"] = {"sha256": sha256, "size": len(data), "pointerSize": 134}
    return described


def _entry(name: str, data: bytes) -> dict[str, Any]:
    """Return a file as the tree of a revision has it."""
    described = _sibling(name, data)
    entry: dict[str, Any] = {"type": "file", "path": name, "size": len(data), "oid": described["blobId"]}
    if "lfs" in described:
        entry["lfs"] = {"oid": described["lfs"]["sha256"], "size": len(data), "pointerSize": 134}
    return entry
