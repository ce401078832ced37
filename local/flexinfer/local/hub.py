"""A Hugging Face hub on loopback: serves files of this machine as one repository, at a chosen pace.

`flexinfer demo` downloads from it, so that a download of the real program is seen where there is no way out to a hub. It speaks as much of
the hub's API as huggingface_hub needs to list a repository and fetch parts of its files: https://huggingface.co/docs/hub/api.
There are no tokens, and nothing can be written.
"""

import contextlib
import hashlib
import http.server
import json
import os
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import unquote, urlsplit

_HOST, _BLOCK, _MIB = "127.0.0.1", 64 * 1024, 2**20


class _File(NamedTuple):
    path: Path
    size: int
    sha256: str


class Hub:
    """A repository and its pace; `address` is where it is served."""

    def __init__(self, repository: str, files: Mapping[str, Path], bytes_per_second: float) -> None:
        self.repository, self.address = repository, ""
        self._files = {name: _File(path, path.stat().st_size, _sha256(path)) for name, path in files.items()}
        self.commit = hashlib.sha1(repr(self._files).encode(), usedforsecurity=False).hexdigest()
        self._pace, self._free, self._lock = bytes_per_second, 0.0, threading.Lock()

    def file(self, name: str) -> _File | None:
        """Return a file; None if there is none of that name."""
        return self._files.get(name)

    def described(self) -> dict[str, Any]:
        """Return the repository as `/api/models/<repository>?blobs=true` has it."""
        siblings = [
            {
                "rfilename": name,
                "size": file.size,
                "blobId": file.sha256[:40],
                "lfs": {"sha256": file.sha256, "size": file.size, "pointerSize": 134},
            }
            for name, file in self._files.items()
        ]
        return {"id": self.repository, "modelId": self.repository, "sha": self.commit, "siblings": siblings, "tags": []}  # fmt: skip

    def wait_for(self, size: int) -> None:
        """Wait until some bytes may be sent: all requests together have one pace."""
        with self._lock:
            now = time.monotonic()
            self._free = max(now, self._free) + size / self._pace
            seconds = self._free - now
        time.sleep(seconds)


@contextlib.contextmanager
def served(repository: str, files: Mapping[str, Path], bytes_per_second: float) -> Iterator[Hub]:
    """Serve files, name -> path, on a free port of loopback for the length of the block. Raises OSError."""
    hub = Hub(repository, files, bytes_per_second)

    class Handler(_Handler):
        pass

    Handler.hub = hub
    server = http.server.ThreadingHTTPServer((_HOST, 0), Handler)
    server.daemon_threads, server.block_on_close = True, False
    hub.address = f"http://{_HOST}:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
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
        """Log nothing: the output is the demo's."""

    def do_HEAD(self) -> None:
        """Answer as to GET, without a body."""
        self.do_GET()

    def do_GET(self) -> None:
        """Answer with the listing, or with a file or a part of it."""
        path, hub = unquote(urlsplit(self.path).path), self.hub
        model, files = f"/api/models/{hub.repository}", f"/{hub.repository}/resolve/"
        if path == model or path.startswith(f"{model}/revision/"):
            body = json.dumps(hub.described()).encode()
            self._begin(200, len(body), {"Content-Type": "application/json"})
            self._write(body)
        elif path.startswith(files) and (file := hub.file(path.removeprefix(files).partition("/")[2])):
            self._send(file)
        else:
            missing = "EntryNotFound" if path.startswith(files) else "RepoNotFound"
            self._begin(404, 0, {"X-Error-Code": missing})

    def _send(self, file: _File) -> None:
        first, end = _range(self.headers.get("Range", ""), file.size)
        headers = {"ETag": f'"{file.sha256}"', "X-Repo-Commit": self.hub.commit}
        if "Range" in self.headers:
            headers["Content-Range"] = f"bytes {first}-{end - 1}/{file.size}"
        self._begin(206 if "Range" in self.headers else 200, end - first, headers)
        if self.command == "HEAD":
            return
        with file.path.open("rb") as source:
            for position in range(first, end, _BLOCK):
                block = os.pread(source.fileno(), min(_BLOCK, end - position), position)
                self.hub.wait_for(len(block))
                if not self._write(block):
                    return

    def _begin(self, status: int, size: int, headers: Mapping[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(size))
        self.end_headers()

    def _write(self, body: bytes) -> bool:
        """Send a part of the body; returns whether the client is still there."""
        try:
            if self.command != "HEAD":
                self.wfile.write(body)
        except OSError:
            self.close_connection = True
        return not self.close_connection


def _range(header: str, size: int) -> tuple[int, int]:
    """Return where the part that a request asks for begins and ends; everything if it asks for none."""
    first, _, last = header.removeprefix("bytes=").partition("-")
    if not first.isdecimal():
        return 0, size
    return min(int(first), size), min(size, int(last) + 1 if last.isdecimal() else size)


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_MIB):
            digest.update(block)
    return digest.hexdigest()
