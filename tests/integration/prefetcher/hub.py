"""A Hugging Face Hub on loopback: one repository, as much of its protocol as a download needs, and faults."""

import hashlib
import http.server
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

SHA = "0123456789abcdef0123456789abcdef01234567"
OTHER = "fedcba9876543210fedcba9876543210fedcba98"
FILES = {
    "config.json": b'{"a": 1}',
    "m-Q4.gguf": b"4" * 300_000,
    "m-Q8.gguf": b"8" * 300_000,
    "README.md": b"hi",
}


class Hub:
    """The state of the Hub: faults to inject, and the files that were downloaded."""

    def __init__(self) -> None:
        self.address = ""
        self.fetched: list[str] = []
        self.failing: set[str] = set()
        self.gated = False


@contextmanager
def served() -> Iterator[Hub]:
    """Serve a Hub on a free port of loopback."""
    hub = Hub()

    class Handler(_Handler):
        pass

    Handler.hub = hub
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    hub.address = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(http.server.BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None:
        """Log nothing."""

    def do_HEAD(self) -> None:
        """Reply as to GET, without a body."""
        self.do_GET()

    def do_GET(self) -> None:
        """Reply with a part of the API or a file."""
        path = self.path.split("?")[0]
        if path.startswith("/api/models/org/tiny"):
            self._describe(path)
        elif path.startswith("/org/tiny/resolve/"):
            self._file(path.rsplit("/", 1)[1])
        else:
            self._reply(404, b"", {"X-Error-Code": "RepoNotFound"})

    def _describe(self, path: str) -> None:
        if self.hub.gated:
            self._reply(403, b"", {"X-Error-Code": "GatedRepo"})
            return
        if "/tree/" in path:
            body: Any = [
                {"type": "file", "path": name, "size": len(data), "oid": hashlib.sha1(data).hexdigest()}  # noqa: S324
                for name, data in FILES.items()
            ]
        elif path.endswith("/revision/missing"):
            self._reply(404, b"", {"X-Error-Code": "RevisionNotFound"})
            return
        else:
            sha = OTHER if path.endswith("/revision/v2") else SHA
            siblings = [{"rfilename": name, "size": len(data)} for name, data in FILES.items()]
            body = {"id": "org/tiny", "modelId": "org/tiny", "sha": sha, "siblings": siblings, "tags": []}
        self._reply(200, json.dumps(body).encode(), {"Content-Type": "application/json"})

    def _file(self, name: str) -> None:
        data = FILES.get(name)
        if data is None or name in self.hub.failing:
            self._reply(403 if data else 404, b"")
            return
        if self.command == "GET":
            self.hub.fetched.append(name)
        headers = {
            "ETag": f'"{hashlib.sha256(data).hexdigest()}"',
            "X-Repo-Commit": SHA,
            "Accept-Ranges": "bytes",
        }
        requested = self.headers.get("Range")
        if requested:
            start = int(requested.split("=")[1].split("-")[0])
            part = data[start:]
            headers["Content-Range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
            self._reply(206, part, headers)
            return
        self._reply(200, data, headers)

    def _reply(self, code: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(code)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)
