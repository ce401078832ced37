"""The scheduler extender: HTTP for kube-scheduler, on a port of its own, answered by every replica from its own observed state.

POST /filter and /prioritize. A request that cannot be read, or that comes before the state is complete, is answered with an error in
the protocol's own form: nothing that a client sends ends the process.
"""

import asyncio
from collections.abc import Callable

from flexinfer.runtime import without_authorities as _first  # noqa: F401 -- before all that imports aiohttp

# isort: split
from aiohttp import web

from flexinfer.placer import extender, extender_protocol
from flexinfer.placer.extender_protocol import ProtocolError
from flexinfer.runtime.controller import Remember
from flexinfer.runtime.runtime import Runtime
from flexinfer.state.observed import ObservedState

_LONGEST_BODY = 64 * 2**20
"""Bytes of a request: the objects of 5,000 nodes are some 50 MB; by name (`nodeCacheCapable: true`) they are 0.1 MB."""
_NOT_READY = "flexinfer-placer has not read the state stream yet; the scheduler tries again"
_BAD_REQUEST, _UNAVAILABLE, _OK = 400, 503, 200


class ExtenderServer:
    """Answers kube-scheduler from the state that it was last given."""

    def __init__(self) -> None:
        self._state: ObservedState | None = None

    def follow(self, state: ObservedState) -> None:
        """Take the state as it is now."""
        self._state = state

    async def serve(self, runtime: Runtime, _remember: Remember[None]) -> None:
        """Serve until cancelled. Raises OSError if the port is taken."""
        runner = web.AppRunner(self.application(runtime.clock), access_log=None)
        await runner.setup()
        try:
            settings = runtime.settings
            await web.TCPSite(runner, settings.extender_host, settings.extender_port).start()
            await asyncio.Event().wait()
        finally:
            await runner.cleanup()

    def application(self, clock: Callable[[], float]) -> web.Application:
        """Return what is served."""

        async def filter_nodes(request: web.Request) -> web.Response:
            return self._filtered(await request.read(), clock())

        async def prioritize(request: web.Request) -> web.Response:
            return self._prioritized(await request.read(), clock())

        application = web.Application(client_max_size=_LONGEST_BODY)
        application.add_routes([web.post("/filter", filter_nodes), web.post("/prioritize", prioritize)])
        return application

    def _filtered(self, body: bytes, now: float) -> web.Response:
        try:
            request = extender_protocol.arguments(body)
        except ProtocolError as error:
            return _response(extender_protocol.filter_error(str(error)))
        if self._state is None:
            return _response(extender_protocol.filter_error(_NOT_READY))
        refusals = extender.refusals(request.pod, request.names, self._state, now)
        return _response(extender_protocol.filter_result(request, refusals))

    def _prioritized(self, body: bytes, now: float) -> web.Response:
        """Return scores; an error is one of HTTP, since a list of scores has no place for it."""
        try:
            request = extender_protocol.arguments(body)
        except ProtocolError as error:
            return _response(extender_protocol.failure(str(error)), _BAD_REQUEST)
        if self._state is None:
            return _response(extender_protocol.failure(_NOT_READY), _UNAVAILABLE)
        scores = extender.scores(request.pod, request.names, self._state, now)
        return _response(extender_protocol.prioritize_result(scores))


def _response(body: bytes, status: int = _OK) -> web.Response:
    return web.Response(body=body, status=status, content_type="application/json")
