"""ComfyUI's prompts: queued by POST /prompt, which answers at once; how far one is comes on its WebSocket, its end is in its history. Pure.

Shapes: server.py, execution.py and comfy_execution/progress.py (commit 02a5b118) of ComfyUI. `progress_state` goes to every client; `progress`, of servers
before it, to the one whose `client_id` the prompt names, and to all if it names none.
"""

import re
from typing import Any
from urllib.parse import quote

from flexinfer.api.foreign_json import ForeignJsonError, read_json
from flexinfer.backends.operations import End, Operations, Step

_ID = re.compile(r"[0-9A-Za-z._-]{1,128}")
"""A client may choose the id of its prompt; one of another form is not followed."""
_NODE = re.compile(r"[0-9A-Za-z._:-]{1,40}")
"""Of a subgraph it has colons; one of another form is not shown."""
_MOST_STEPS = 1_000_000
_LONGEST_CAUSE = 300
_FAILED = {
    "execution_error": "{node_type}: {exception_message}",
    "execution_interrupted": "interrupted in {node_type}",
}
"""The message of a prompt's history that says why it failed."""


def id_of(answer: bytes) -> str:
    """Return the prompt that was queued; empty if none was."""
    prompt = _object(_decoded(answer)).get("prompt_id")
    return prompt if isinstance(prompt, str) and _ID.fullmatch(prompt) else ""


def step_of(message: str) -> Step | None:
    """Return the step of what is running; of several nodes, that of the one with the most steps."""
    kind, data = _event(message)
    prompt = data.get("prompt_id")
    if not isinstance(prompt, str):
        return None
    if kind == "progress":
        return _step(prompt, data)
    if kind != "progress_state":
        return None
    nodes = {name: _object(node) for name, node in _object(data.get("nodes")).items()}
    running = [node | {"node": name} for name, node in nodes.items() if node.get("state") == "running"]
    steps = [step for node in running if (step := _step(prompt, node)) is not None]
    return max(steps, key=lambda step: step.total, default=None)


def may_have_ended(message: str) -> bool:
    """Return whether a message says that the queue has changed, or that a prompt has ended."""
    kind, data = _event(message)
    over = kind == "executing" and data.get("node") is None
    return over or kind in ("status", "execution_success", *_FAILED)


def end_of(prompt: str, answer: bytes) -> End | None:
    """Return the end of a prompt that its history says; None if it has none yet."""
    entry = _object(_decoded(answer)).get(prompt)
    if not isinstance(entry, dict):
        return None
    status = _object(entry.get("status"))
    if not status or status.get("status_str") == "success":
        return End()
    return End(_cause(status.get("messages")) or "it failed")


def left_of(answer: bytes) -> int | None:
    """Return how many prompts wait or run."""
    number = _object(_object(_decoded(answer)).get("exec_info")).get("queue_remaining")
    return number if isinstance(number, int) and not isinstance(number, bool) and number >= 0 else None


def _cause(messages: object) -> str:
    for message in messages if isinstance(messages, list) else ():
        if isinstance(message, list) and len(message) == len(("event", "data")) and message[0] in _FAILED:
            values = {"node_type": "a node", "exception_message": "no cause", **_object(message[1])}
            texts = {
                name: " ".join(str(value).split())
                for name, value in values.items()
                if name in ("node_type", "exception_message")
            }
            return _FAILED[message[0]].format(**texts)[:_LONGEST_CAUSE]
    return ""


def _step(prompt: str, data: dict[str, Any]) -> Step | None:
    """Return a step; None of what has a single one, as every node that counts nothing."""
    done, total = _count(data.get("value")), _count(data.get("max"))
    if done is None or total is None or total <= 1:
        return None
    node = data.get("node")
    return Step(
        prompt, min(done, total), total, node if isinstance(node, str) and _NODE.fullmatch(node) else ""
    )


def _count(value: object) -> int | None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= _MOST_STEPS:
        return None
    return int(value)


def _event(message: str) -> tuple[str, dict[str, Any]]:
    event = _object(_decoded(message.encode(errors="replace")))
    kind = event.get("type")
    return (kind if isinstance(kind, str) else ""), _object(event.get("data"))


def _object(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _decoded(text: bytes) -> object:
    try:
        return read_json(text, object)
    except ForeignJsonError:
        return None


PROMPTS = Operations(
    noun="prompt",
    begun_by="/prompt",
    id_of=id_of,
    events="/ws",
    step_of=step_of,
    may_have_ended=may_have_ended,
    result=lambda prompt: f"/history/{quote(prompt, safe='')}",
    end_of=end_of,
    left="/prompt",
    left_of=left_of,
)
