"""A server that answers as ComfyUI does, by the shapes of its source (server.py, execution.py, comfy_execution/progress.py).

It runs nothing: a test says what happens to a prompt.
"""

import uuid
from typing import Any

from aiohttp import WSMsgType, web


class ComfyUI:
    """The queue, the history and the sockets of a ComfyUI; `broadcasts` is False for one of before `progress_state`."""

    def __init__(self, *, broadcasts: bool = True, has_socket: bool = True) -> None:
        self._broadcasts = broadcasts
        self.queue: list[str] = []
        self.results: dict[str, Any] = {}
        self.asked: list[str] = []
        """The paths of the queue and of results that were asked for, in order."""
        self.sockets: dict[str, web.WebSocketResponse] = {}
        self.app = web.Application()
        self.app.router.add_post("/prompt", self._post_prompt)
        self.app.router.add_get("/prompt", self._get_prompt)
        self.app.router.add_get("/history/{id}", self._get_history)
        self.app.on_shutdown.append(self._close)
        if has_socket:
            self.app.router.add_get("/ws", self._socket)

    async def _close(self, _app: web.Application) -> None:
        for socket in list(self.sockets.values()):
            await socket.close()

    async def _post_prompt(self, request: web.Request) -> web.Response:
        body = await request.json()
        if not body.get("prompt"):
            error = {"type": "no_prompt", "message": "No prompt provided", "details": "", "extra_info": {}}
            return web.json_response({"error": error, "node_errors": {}}, status=400)
        prompt = str(body.get("prompt_id", uuid.uuid4()))
        self.queue.append(prompt)
        await self._send("status", {"status": self._info()})
        return web.json_response({"prompt_id": prompt, "number": len(self.queue), "node_errors": {}})

    def _info(self) -> dict[str, Any]:
        return {"exec_info": {"queue_remaining": len(self.queue)}}

    async def _get_prompt(self, request: web.Request) -> web.Response:
        self.asked.append(request.path)
        return web.json_response(self._info())

    async def _get_history(self, request: web.Request) -> web.Response:
        self.asked.append(request.path)
        prompt = request.match_info["id"]
        return web.json_response({prompt: self.results[prompt]} if prompt in self.results else {})

    async def _socket(self, request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        sid = request.query.get("clientId") or uuid.uuid4().hex
        self.sockets[sid] = socket
        await socket.send_json({"type": "status", "data": {"status": self._info(), "sid": sid}})
        async for message in socket:
            assert message.type is not WSMsgType.ERROR
        self.sockets.pop(sid, None)
        return socket

    async def _send(self, kind: str, data: dict[str, Any]) -> None:
        for socket in list(self.sockets.values()):
            await socket.send_json({"type": kind, "data": data})

    async def step(self, prompt: str, value: int, most: int, node: str = "3") -> None:
        """Send how far a node is to all clients: the one that does it, one that has ended and one without steps."""
        if not self._broadcasts:
            await self._send("progress", {"value": value, "max": most, "prompt_id": prompt, "node": node})
            return
        nodes = {
            "1": {"value": 1, "max": 1, "state": "finished", "node_id": "1", "prompt_id": prompt},
            node: {"value": value, "max": most, "state": "running", "node_id": node, "prompt_id": prompt},
            "9": {"value": 0.0, "max": 1.0, "state": "running", "node_id": "9", "prompt_id": prompt},
        }
        await self._send("progress_state", {"prompt_id": prompt, "nodes": nodes})

    async def end(self, prompt: str, *messages: tuple[str, dict[str, Any]]) -> None:
        """End a prompt: with success, or with the messages of an error."""
        status = {"status_str": "error" if messages else "success", "completed": not messages}
        self.results[prompt] = {"outputs": {}, "status": status | {"messages": [list(m) for m in messages]}}
        await self.remove(prompt)

    async def remove(self, prompt: str) -> None:
        """Take a prompt out of the queue."""
        self.queue.remove(prompt)
        await self._send("status", {"status": self._info()})
