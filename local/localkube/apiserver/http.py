"""The HTTP face of the store: paths, verbs, options, bodies and errors as kubectl and every client of Kubernetes know them.

Each request is one synchronous call of the store, so nothing happens between its read and its write. Watches and logs are the only
answers that last.
"""

import logging
import ssl
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
from aiohttp import web

from localkube.apiserver import pod_logs, query_options, request_body, routing
from localkube.apiserver.auth import OPEN_PATHS, Authenticator
from localkube.apiserver.content_negotiation import JSON, object_form
from localkube.apiserver.discovery import Discovery
from localkube.apiserver.errors import ApiError, expired, no_such_resource
from localkube.apiserver.journal import JournalError
from localkube.apiserver.requests import Listing
from localkube.apiserver.resources import Object
from localkube.apiserver.routing import Target
from localkube.apiserver.store import Store
from localkube.apiserver.tables import Form, ResponseTransformer, form
from localkube.apiserver.watch_stream import Watch, too_large

HOST = "127.0.0.1"
_ENCODER = msgspec.json.Encoder()
_GOODBYE_SECONDS = 1.0
_UNAUTHORIZED = 401
logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Parts:
    """What the face stands on. `lost` is called with the error when the journal cannot be written any more."""

    store: Store
    transformer: ResponseTransformer
    discovery: Discovery
    gate: Authenticator
    node_logs: pod_logs.KubeletLogs
    lost: Callable[[JournalError], None]


@dataclass(frozen=True, slots=True)
class _Call:
    """One request for a resource."""

    request: web.Request
    aim: Target
    query: Mapping[str, str]
    form: Form


class Face:
    """The aiohttp application around a store."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._store = parts.store
        self._watches: set[Watch] = set()
        self._verbs: Mapping[str, Callable[[_Call], Any]] = {
            "list": self._list,
            "get": self._get,
            "create": self._create,
            "update": self._update,
            "patch": self._patch,
            "delete": self._delete,
            "deletecollection": self._delete_collection,
            "bind": self._bind,
            "log": self._log,
        }

    async def listen(self, context: ssl.SSLContext | None, port: int) -> tuple[web.AppRunner, int]:
        """Listen on loopback; returns what `cleanup` ends, and the port."""
        app = web.Application(client_max_size=request_body.MAX_BYTES)
        app.router.add_route("*", "/{path:.*}", self._answer)
        runner = web.AppRunner(
            app, access_log=None, handler_cancellation=True, shutdown_timeout=_GOODBYE_SECONDS
        )
        await runner.setup()
        site = web.TCPSite(runner, HOST, port, ssl_context=context, backlog=1024)
        await site.start()
        return runner, int(runner.addresses[0][1])

    def end_watches(self) -> None:
        """End all watches after what they have to say."""
        for watch in self._watches:
            watch.end()

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        try:
            self._parts.gate.check(request.path, request.headers)
            return await self._dispatch(request)
        except ApiError as error:
            return _refusal(error)
        except web.HTTPRequestEntityTooLarge:
            return _refusal(request_body.too_large())
        except OSError:
            raise  # the client went
        except JournalError as error:
            self._parts.lost(error)
            return _refusal(ApiError(500, "InternalError", f"Internal error occurred: {error}"))
        except Exception as error:
            logger.exception("%s %s", request.method, request.path_qs)
            return _refusal(ApiError(500, "InternalError", f"Internal error occurred: {error}"))

    async def _dispatch(self, request: web.Request) -> web.StreamResponse:
        path = request.path
        aim = routing.resolve(self._store.registry, path) if path.startswith("/api") else None
        if aim is None:
            return self._document(request, path)
        query = request.query
        accepted = object_form(request.headers.get("Accept", ""))
        call = _Call(request, aim, query, form(accepted.form, query.get("includeObject", "")))
        wanted = routing.verb(request.method, aim)
        if wanted in ("list", "get") and not aim.subresource and query_options.parse_bool(query, "watch"):
            return await self._watch(call)
        answer: web.StreamResponse = await self._verbs[wanted](call)
        return answer

    def _document(self, request: web.Request, path: str) -> web.Response:
        if path in OPEN_PATHS:
            return web.Response(text="ok")
        found = self._parts.discovery.answer(path, request.headers.get("Accept", ""))
        if found is None or request.method not in ("GET", "HEAD"):
            raise no_such_resource()
        headers = {"ETag": found.etag, "Vary": "Accept"}
        if request.headers.get("If-None-Match") == found.etag:
            return web.Response(status=304, headers=headers)
        return web.Response(body=found.body, headers=headers | {"Content-Type": found.content_type})

    async def _list(self, call: _Call) -> web.Response:
        aim, asked = call.aim, query_options.list_version(call.query)
        current = self._store.revision
        if asked.version and int(asked.version) > current:
            raise too_large(asked.version, current)
        found = self._store.list(aim.res, aim.namespace, query_options.list_query(call.query))
        if asked.match == "Exact" and asked.version != found.resource_version:
            raise expired("The provided resource version is too old; only the newest state is kept.")
        return self._listed(call, found)

    async def _get(self, call: _Call) -> web.Response:
        aim = call.aim
        found = self._store.get(aim.res, aim.namespace, aim.name)
        return _json(self._parts.transformer.one(aim.res, found, call.form))

    async def _create(self, call: _Call) -> web.Response:
        aim, request = call.aim, call.request
        obj = request_body.decode_object(await request.read(), request.content_type, aim)
        written = self._store.create(
            aim.res, aim.namespace, obj, query_options.write_options(call.query, _agent(call))
        )
        return self._written(call, written.obj, written.warnings, created=True)

    async def _update(self, call: _Call) -> web.Response:
        aim, request = call.aim, call.request
        obj = request_body.decode_object(await request.read(), request.content_type, aim)
        options = query_options.write_options(call.query, _agent(call))
        written = self._store.update(
            aim.res, aim.namespace, aim.name, obj, options, subresource=aim.subresource
        )
        return self._written(call, written.obj, written.warnings, created=written.created)

    async def _patch(self, call: _Call) -> web.Response:
        aim, request = call.aim, call.request
        patch = request_body.decode_patch(await request.read(), request.content_type, aim)
        options = query_options.patch_options(call.query, _agent(call), apply=patch.kind == "apply")
        written = self._store.patch(
            aim.res, aim.namespace, aim.name, patch, options, subresource=aim.subresource
        )
        return self._written(call, written.obj, written.warnings, created=written.created)

    async def _delete(self, call: _Call) -> web.Response:
        aim = call.aim
        options = query_options.delete_options(
            call.query, request_body.decode_delete_options(await call.request.read())
        )
        last = self._store.delete(aim.res, aim.namespace, aim.name, options)
        if not options.dry_run and self._is_there(aim, last):
            return _json(self._parts.transformer.one(aim.res, last, call.form))
        details = {
            "name": aim.name,
            "group": aim.res.group,
            "kind": aim.res.plural,
            "uid": last["metadata"]["uid"],
        }
        return _json(
            {
                "kind": "Status",
                "apiVersion": "v1",
                "metadata": {},
                "status": "Success",
                "details": {key: value for key, value in details.items() if value},
            }
        )

    def _is_there(self, aim: Target, last: Object) -> bool:
        try:
            found = self._store.get(aim.res, aim.namespace, aim.name)
        except ApiError:
            return False
        return bool(found["metadata"]["uid"] == last["metadata"]["uid"])

    async def _delete_collection(self, call: _Call) -> web.Response:
        aim = call.aim
        options = query_options.delete_options(
            call.query, request_body.decode_delete_options(await call.request.read())
        )
        found = self._store.delete_collection(
            aim.res, aim.namespace, query_options.list_query(call.query), options
        )
        return self._listed(call, found)

    async def _bind(self, call: _Call) -> web.Response:
        aim, request = call.aim, call.request
        binding = request_body.decode_object(await request.read(), request.content_type, aim)
        options = query_options.write_options(call.query, _agent(call))
        self._store.update(aim.res, aim.namespace, aim.name, binding, options, subresource="binding")
        return _json({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success"}, 201)

    async def _log(self, call: _Call) -> web.StreamResponse:
        aim, registry = call.aim, self._store.registry
        pod = self._store.get(aim.res, aim.namespace, aim.name)
        container = pod_logs.log_container(pod, call.query.get("container", ""))
        name = pod.get("spec", {}).get("nodeName")
        if not name:
            return web.Response(status=204)
        nodes = registry.find("", "v1", "nodes")
        node = self._store.get(nodes, None, name) if nodes else None
        where = pod_logs.log_location(pod, node, container, self._parts.node_logs.scheme)
        response = web.StreamResponse(headers={"Content-Type": "text/plain"})
        async with self._parts.node_logs.chunks(where, call.query) as chunks:
            await response.prepare(call.request)
            async for chunk in chunks:
                await response.write(chunk)
        return response

    async def _watch(self, call: _Call) -> web.StreamResponse:
        aim, options = call.aim, query_options.watch_options(call.query)
        watch = Watch(self._store, self._parts.transformer, aim.res, call.form)
        watch.open(aim.namespace, query_options.list_query(call.query, aim.name), options)
        self._watches.add(watch)
        try:
            response = web.StreamResponse(
                headers={"Content-Type": JSON, "Cache-Control": "no-cache, private"}
            )
            response.enable_chunked_encoding()
            await response.prepare(call.request)
            async for chunk in watch.lines(options):
                await response.write(chunk)
            return response
        finally:
            self._watches.discard(watch)
            watch.close()

    def _listed(self, call: _Call, found: Listing) -> web.Response:
        return _json(self._parts.transformer.many(call.aim.res, found, call.form))

    def _written(self, call: _Call, obj: Object, warnings: Sequence[str], *, created: bool) -> web.Response:
        shaped = self._parts.transformer.one(call.aim.res, obj, call.form)
        return _json(shaped, 201 if created else 200, warnings)


def _agent(call: _Call) -> str:
    return call.request.headers.get("User-Agent", "")


def _json(content: Object, status: int = 200, warnings: Sequence[str] = ()) -> web.Response:
    response = web.Response(
        body=_ENCODER.encode(content) + b"\n", status=status, headers={"Content-Type": JSON}
    )
    for warning in warnings:
        quoted = warning.replace("\\", "\\\\").replace('"', '\\"')
        response.headers.add("Warning", f'299 - "{quoted}"')
    return response


def _refusal(error: ApiError) -> web.Response:
    response = _json(error.status(), error.code)
    if error.code == _UNAUTHORIZED:
        response.headers["WWW-Authenticate"] = 'Bearer realm="localkube"'
    retry = (error.details or {}).get("retryAfterSeconds")
    if retry:
        response.headers["Retry-After"] = str(retry)
    return response
