"""A stub llama-server: ready a random 0.3 to 2.3 s after its start, then it responds at once.

Standard library only, so that its start is as fast as possible for a Python process. It reports in each
response, and in the file $STUB_LOG if set, when its process started, when it was ready and when it was ended, in seconds of the
monotonic clock, which all processes and containers of a machine share.
"""

import os
import random
import signal
import socket
import sys
import time

STARTED = time.monotonic()
ANSWER = (
    '{"id":"stub","object":"chat.completion","choices":[{"index":0,"finish_reason":"stop",'
    '"message":{"role":"assistant","content":"ready"}}],"usage":{"prompt_tokens":1,"completion_tokens":1},'
    '"started":%.6f,"ready":%.6f}'
)

IDLE = b"llamacpp:requests_processing 0\n"
"""What its metrics say: it answers one request at a time, so that no other is in flight while it answers this one."""


def note(what: str, when: float) -> None:
    """Append a line to the log, if there is one."""
    if "STUB_LOG" not in os.environ:
        return
    with open(os.environ["STUB_LOG"], "a") as log:  # noqa: PTH123 -- pathlib would cost more than the stub
        log.write(f"{what} {when:.6f}\n")


def end(*_: object) -> None:
    """End, and note when that began."""
    note("ended", time.monotonic())
    sys.exit(0)


def option(name: str, default: str) -> str:
    """Return the value of a flag of llama-server."""
    return sys.argv[sys.argv.index(name) + 1] if name in sys.argv else default


def main() -> None:
    """Listen, become ready, and respond."""
    signal.signal(signal.SIGTERM, end)  # the first process of a container would ignore it
    note("started", STARTED)
    ready_at = STARTED + random.uniform(0.3, 2.3)
    server = socket.create_server((option("--host", "127.0.0.1"), int(option("--port", "8080"))), backlog=64)
    is_ready = False
    while True:
        if not is_ready:
            server.settimeout(max(0.0005, ready_at - time.monotonic()))
        try:
            client, _ = server.accept()
        except TimeoutError:
            note("ready", time.monotonic())
            is_ready = True
            server.settimeout(None)
            continue
        answer(client, ready_at, ready=is_ready or time.monotonic() >= ready_at)


def answer(client: socket.socket, ready_at: float, *, ready: bool) -> None:
    """Respond to one request and close the connection."""
    with client:
        client.settimeout(5)
        data = b""
        while b"\r\n\r\n" not in data:
            chunk = client.recv(65536)
            if not chunk:
                return
            data += chunk
        head, _, rest = data.partition(b"\r\n\r\n")
        length = next(
            (int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")), 0
        )
        while len(rest) < length:
            rest += client.recv(65536)
        success = IDLE if head.startswith(b"GET /metrics") else (ANSWER % (STARTED, ready_at)).encode()
        status, body = (b"200 OK", success) if ready else (b"503 Service Unavailable", b"{}")
        client.sendall(
            b"HTTP/1.1 " + status + b"\r\nContent-Type: application/json\r\nConnection: close\r\n"
            b"Content-Length: " + str(len(body)).encode() + b"\r\n\r\n" + body
        )


if __name__ == "__main__":
    main()
