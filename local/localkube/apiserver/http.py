"""The HTTP handlers: one per verb, from a request to a call of the store and back to JSON.

Like apiserver/pkg/endpoints/handlers. Each request is one synchronous call of the store, so no other write
comes between its read and its write. Only watches and Pod logs are streamed. Paths are parsed in `routing`,
options in `query_options`, bodies in `request_body`.
"""

import logging
import ssl
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
from aiohttp import web

from localkube.apiserver import pod_logs, query_options, request_body, routing
from localkube.apiserver.auth import OPEN_PATHS, Authenticator, health, refuse_impersonation
from localkube.apiserver.content_negotiation import JSON, negotiate_object
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
_SHUTDOWN_SECONDS = 1.0  # for requests in flight, after the watches have ended
_UNAUTHORIZED = 401
_SUCCESS: Object = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success"}
logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class HandlerConfig:
    """What the handlers need."""

    store: Store
    transformer: ResponseTransformer
    discovery: Discovery
    authenticator: Authenticator
    node_logs: pod_logs.KubeletLogs


@dataclass(frozen=True, slots=True)
class _ResourceRequest:
    """One request for a resource, with its parsed path and the representation to answer in."""

    request: web.Request
    target: Target
    query: Mapping[str, str]
    form: Form


class ApiHandler:
    """The aiohttp application that serves a store."""

    def __init__(self, config: HandlerConfig) -> None:
        self._config = config
        self._store = config.store
        self._watches: set[Watch] = set()
        self._verbs: Mapping[str, Callable[[_ResourceRequest], Any]] = {
            "list": self._list,
            "get": self._get,
            "create": self._create,
            "update": self._update,
            "patch": self._patch,
            "delete": self._delete,
            "deletecollection": self._delete_collection,
            "bind": self._bind,
            "evict": self._evict,
            "log": self._log,
        }

    async def listen(self, context: ssl.SSLContext | None, port: int) -> tuple[web.AppRunner, int]:
        """Listen on loopback (port 0: any); return the runner and its port. Raises OSError."""
        app = web.Application(client_max_size=request_body.MAX_BYTES)
        app.router.add_route("*", "/{path:.*}", self._handle)
        runner = web.AppRunner(
            app, access_log=None, handler_cancellation=True, shutdown_timeout=_SHUTDOWN_SECONDS
        )
        await runner.setup()
        site = web.TCPSite(runner, HOST, port, ssl_context=context, backlog=1024)
        await site.start()
        return runner, int(runner.addresses[0][1])

    def end_watches(self) -> None:
        """End all watches after the events that are already queued."""
        for watch in self._watches:
            watch.end()

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        try:
            self._config.authenticator.authenticate(request.path, request.headers)
            refuse_impersonation(request.headers)
            return await self._dispatch(request)
        except ApiError as error:
            return _failure(error)
        except web.HTTPRequestEntityTooLarge:
            return _failure(request_body.too_large())
        except OSError:
            raise  # the client disconnected
        except JournalError as error:
            return _failure(ApiError(507, "InsufficientStorage", str(error)))
        except Exception as error:
            logger.exception("%s %s", request.method, request.path_qs)
            return _failure(ApiError(500, "InternalError", f"Internal error occurred: {error}"))

    async def _dispatch(self, request: web.Request) -> web.StreamResponse:
        path = request.path
        target = routing.resolve(self._store.registry, path) if path.startswith("/api") else None
        if target is None:
            return self._document(request, path)
        query = request.query
        media_type = negotiate_object(request.headers.get("Accept", ""))
        call = _ResourceRequest(request, target, query, form(media_type.form, query.get("includeObject", "")))
        verb = routing.verb(request.method, target)
        if verb in ("list", "get") and not target.subresource and query_options.parse_bool(query, "watch"):
            return await self._watch(call)
        response: web.StreamResponse = await self._verbs[verb](call)
        return response

    def _document(self, request: web.Request, path: str) -> web.Response:
        if path in OPEN_PATHS:
            return web.Response(text=health(path, verbose="verbose" in request.query))
        document = self._config.discovery.answer(path, request.headers.get("Accept", ""))
        if document is None or request.method not in ("GET", "HEAD"):
            raise no_such_resource()
        headers = {"ETag": document.etag, "Vary": "Accept"}
        if request.headers.get("If-None-Match") == document.etag:
            return web.Response(status=304, headers=headers)
        return web.Response(body=document.body, headers=headers | {"Content-Type": document.content_type})

    async def _list(self, call: _ResourceRequest) -> web.Response:
        target, requested_version = call.target, query_options.list_version(call.query)
        current = self._store.revision
        if requested_version.version and int(requested_version.version) > current:
            raise too_large(requested_version.version, current)
        listing = self._store.list(target.res, target.namespace, query_options.list_query(call.query))
        if requested_version.match == "Exact" and requested_version.version != listing.resource_version:
            raise expired("The provided resource version is too old; only the newest state is kept.")
        return self._list_response(call, listing)

    async def _get(self, call: _ResourceRequest) -> web.Response:
        target = call.target
        obj = self._store.get(target.res, target.namespace, target.name)
        return _json(self._config.transformer.one(target.res, obj, call.form))

    async def _create(self, call: _ResourceRequest) -> web.Response:
        target, request = call.target, call.request
        obj = request_body.decode_object(await request.read(), _content_type(request), target)
        result = self._store.create(
            target.res, target.namespace, obj, query_options.write_options(call.query, _agent(call))
        )
        return self._write_response(call, result.obj, result.warnings, created=True)

    async def _update(self, call: _ResourceRequest) -> web.Response:
        target, request = call.target, call.request
        obj = request_body.decode_object(await request.read(), _content_type(request), target)
        options = query_options.write_options(call.query, _agent(call))
        result = self._store.update(
            target.res, target.namespace, target.name, obj, options, subresource=target.subresource
        )
        return self._write_response(call, result.obj, result.warnings, created=result.created)

    async def _patch(self, call: _ResourceRequest) -> web.Response:
        target, request = call.target, call.request
        patch = request_body.decode_patch(await request.read(), _content_type(request), target)
        options = query_options.patch_options(call.query, _agent(call), apply=patch.kind == "apply")
        result = self._store.patch(
            target.res, target.namespace, target.name, patch, options, subresource=target.subresource
        )
        return self._write_response(call, result.obj, result.warnings, created=result.created)

    async def _delete(self, call: _ResourceRequest) -> web.Response:
        target = call.target
        options = query_options.delete_options(
            call.query,
            request_body.decode_delete_options(await call.request.read(), _content_type(call.request)),
        )
        last = self._store.delete(target.res, target.namespace, target.name, options)
        if not options.dry_run and self._still_exists(target, last):
            return _json(self._config.transformer.one(target.res, last, call.form))
        details = {
            "name": target.name,
            "group": target.res.group,
            "kind": target.res.plural,
            "uid": last["metadata"]["uid"],
        }
        return _json(_SUCCESS | {"details": {key: value for key, value in details.items() if value}})

    def _still_exists(self, target: Target, last: Object) -> bool:
        try:
            current = self._store.get(target.res, target.namespace, target.name)
        except ApiError:
            return False
        return bool(current["metadata"]["uid"] == last["metadata"]["uid"])

    async def _delete_collection(self, call: _ResourceRequest) -> web.Response:
        target = call.target
        options = query_options.delete_options(
            call.query,
            request_body.decode_delete_options(await call.request.read(), _content_type(call.request)),
        )
        listing = self._store.delete_collection(
            target.res, target.namespace, query_options.list_query(call.query), options
        )
        return self._list_response(call, listing)

    async def _bind(self, call: _ResourceRequest) -> web.Response:
        target, request = call.target, call.request
        binding = request_body.decode_object(await request.read(), _content_type(request), target)
        options = query_options.write_options(call.query, _agent(call))
        self._store.update(target.res, target.namespace, target.name, binding, options, subresource="binding")
        return _json(_SUCCESS, 201)

    async def _evict(self, call: _ResourceRequest) -> web.Response:
        """Delete a Pod, as `kubectl drain` requests it; no PodDisruptionBudget forbids it here."""
        target, request = call.target, call.request
        eviction = request_body.decode_object(await request.read(), _content_type(request), target)
        options = query_options.delete_options(call.query, eviction.get("deleteOptions"))
        self._store.delete(target.res, target.namespace, target.name, options)
        return _json(_SUCCESS, 201)

    async def _log(self, call: _ResourceRequest) -> web.StreamResponse:
        target, registry = call.target, self._store.registry
        pod = self._store.get(target.res, target.namespace, target.name)
        container = pod_logs.log_container(pod, call.query.get("container", ""))
        name = pod.get("spec", {}).get("nodeName")
        if not name:
            return web.Response(status=204)
        nodes = registry.find("", "v1", "nodes")
        node = self._store.get(nodes, None, name) if nodes else None
        where = pod_logs.log_location(pod, node, container, self._config.node_logs.scheme)
        response = web.StreamResponse(headers={"Content-Type": "text/plain"})
        async with self._config.node_logs.chunks(where, call.query) as chunks:
            await response.prepare(call.request)
            async for chunk in chunks:
                await response.write(chunk)
        return response

    async def _watch(self, call: _ResourceRequest) -> web.StreamResponse:
        target, options = call.target, query_options.watch_options(call.query)
        watch = Watch(self._store, self._config.transformer, target.res, call.form)
        watch.open(target.namespace, query_options.list_query(call.query, target.name), options)
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

    def _list_response(self, call: _ResourceRequest, listing: Listing) -> web.Response:
        return _json(self._config.transformer.many(call.target.res, listing, call.form))

    def _write_response(
        self, call: _ResourceRequest, obj: Object, warnings: Sequence[str], *, created: bool
    ) -> web.Response:
        body = self._config.transformer.one(call.target.res, obj, call.form)
        return _json(body, 201 if created else 200, warnings)


def _agent(call: _ResourceRequest) -> str:
    return call.request.headers.get("User-Agent", "")


def _content_type(request: web.Request) -> str:
    """Return the Content-Type header, empty without one: the body is then read as JSON."""
    return request.headers.get("Content-Type", "")


def _json(content: Object, status: int = 200, warnings: Sequence[str] = ()) -> web.Response:
    response = web.Response(
        body=_ENCODER.encode(content) + b"\n", status=status, headers={"Content-Type": JSON}
    )
    for warning in warnings:
        text = warning.replace("\\", "\\\\").replace('"', '\\"')
        response.headers.add("Warning", f'299 - "{text}"')
    return response


def _failure(error: ApiError) -> web.Response:
    response = _json(error.status(), error.code)
    if error.code == _UNAUTHORIZED:
        response.headers["WWW-Authenticate"] = 'Bearer realm="localkube"'
    retry = (error.details or {}).get("retryAfterSeconds")
    if retry:
        response.headers["Retry-After"] = str(retry)
    return response
