"""A stand-in for llama-server: it streams one word every 50 ms, several requests at a time.

It is ready half a second after its start, and not before the file of `--seen` says that it was seen loading. Standard library only. SIGTERM
ends it at once, in the middle of a stream too: who stops it must wait for the streams.
"""

import json
import os
import signal
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

READY_SECONDS, WORD_SECONDS = 0.5, 0.05
UNSEEN_SECONDS = 20.0
"""How long it waits to be seen: a launcher that was killed meanwhile may have found it ready."""
STARTED = time.monotonic()
_busy = 0
_lock = threading.Lock()


class Engine(BaseHTTPRequestHandler):
    """One request."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """Answer a health check, or say how many requests are in flight."""
        ready = time.monotonic() >= STARTED + (READY_SECONDS if seen() else UNSEEN_SECONDS)
        words = f"llamacpp:requests_processing {_busy}\nllamacpp:requests_deferred 0\n"
        self._answer(200 if ready else 503, words if self.path == "/metrics" else '{"status": "ok"}')

    def do_POST(self) -> None:
        """Stream as many words as the request names; the server has nothing else, such as slots to save."""
        if not self.path.endswith("/completions"):
            self.rfile.read(int(self.headers["Content-Length"] or 0))
            self._answer(501, "not supported")
            return
        global _busy  # noqa: PLW0603
        body: dict[str, Any] = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with _lock:
            _busy += 1
        try:
            self._stream(int(body.get("max_tokens") or 1))
        finally:
            with _lock:
                _busy -= 1

    def _stream(self, words: int) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for number in range(words):
            time.sleep(WORD_SECONDS)
            last = number == words - 1
            choice = {"index": 0, "delta": {"content": "word "}, "finish_reason": "length" if last else None}
            self._event(json.dumps({"id": "x", "object": "chat.completion.chunk", "choices": [choice]}))
        self._event("[DONE]")
        self.wfile.write(b"0\r\n\r\n")

    def _event(self, data: str) -> None:
        event = f"data: {data}\n\n".encode()
        self.wfile.write(b"%x\r\n%b\r\n" % (len(event), event))
        self.wfile.flush()

    def _answer(self, status: int, text: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "text/plain")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Write no log."""


def seen() -> bool:
    """Return whether an engine was seen loading since its start; without the option it counts as seen."""
    file = Path(option("--seen", "/"))
    return file == Path("/") or (file.exists() and file.stat().st_mtime >= spawned_at())


def spawned_at() -> float:
    """Return when this process was made, in seconds since 1970: it is seen to load from then on, and not from its first line on."""
    ticks = int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19])
    return time.time() - time.clock_gettime(time.CLOCK_BOOTTIME) + ticks / os.sysconf("SC_CLK_TCK")


def option(name: str, default: str) -> str:
    """Return the value of a flag of llama-server."""
    return sys.argv[sys.argv.index(name) + 1] if name in sys.argv else default


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # the first process of a container would ignore it
    address = (option("--host", "127.0.0.1"), int(option("--port", "8080")))
    ThreadingHTTPServer.daemon_threads = True
    ThreadingHTTPServer(address, Engine).serve_forever()
