"""Discovery: /api, /apis and /version in aggregated and unaggregated form, and the index of /openapi/v3.

Like apiserver/pkg/endpoints/discovery. Documents are cached until the set of resources changes, that is until
a CustomResourceDefinition is added, changed or removed. The OpenAPI documents themselves are built in
`openapi`.
"""

import base64
import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

import msgspec

from localkube.apiserver import openapi
from localkube.apiserver.content_negotiation import JSON, negotiate_discovery
from localkube.apiserver.errors import no_such_resource
from localkube.apiserver.registry import Registry
from localkube.apiserver.resource_strategy import builtin
from localkube.apiserver.resources import VERBS, Object, Resource
from localkube.apiserver.unserved import LISTED

GIT_VERSION = "v1.37.0+localkube"
VERSION: Object = {
    "major": "1",
    "minor": "37",
    "emulationMajor": "1",
    "emulationMinor": "37",
    "minCompatibilityMajor": "1",
    "minCompatibilityMinor": "36",
    "gitVersion": GIT_VERSION,
    "gitCommit": "",
    "gitTreeState": "clean",
    "buildDate": "1970-01-01T00:00:00Z",
    "goVersion": "",
    "compiler": "",
    "platform": "linux/amd64",
}
_SUBRESOURCE_VERBS: Mapping[str, tuple[str, ...]] = {
    "status": ("get", "patch", "update"),
    "log": ("get",),
    "binding": ("create",),
    "eviction": ("create",),
    "finalize": ("update",),
}
_CUSTOM_VERBS = ("delete", "deletecollection", "get", "list", "patch", "create", "update", "watch")
_SUBRESOURCE_KINDS = {"binding": ("", "v1", "Binding"), "eviction": ("policy", "v1", "Eviction")}
"""Subresource -> group, version and kind of its body, where that is not the resource's own."""


@dataclass(frozen=True, slots=True)
class Document:
    """The body of a response and its headers."""

    body: bytes
    content_type: str
    etag: str


def _with_etag(body: bytes, content_type: str) -> Document:
    """Return a document whose ETag is the hash of its type and body: kubectl caches answers by URL alone."""
    tag = hashlib.sha256(content_type.encode() + b"\0" + body).hexdigest()[:32].upper()
    return Document(body, content_type, f'"{tag}"')


_OPENAPI_V2 = {media: _with_etag(body, media) for media, body in openapi.V2.items()}


class Discovery:
    """Serves /api, /apis, /version and /openapi for the current resources of a registry."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._resources: Sequence[Resource] = ()
        self._cached_version = 0
        self._cache: dict[tuple[str, str], Document] = {}

    def answer(self, path: str, accept: str) -> Document | None:
        """Return the document of a path, None if it is not a discovery path. Raises ApiError 404 and 406."""
        if self._registry.version != self._cached_version:
            self._cached_version, self._cache = self._registry.version, {}
            self._resources = _with_unserved(self._registry.resources())
        if path == "/openapi/v2":
            return _OPENAPI_V2[openapi.V2_MEDIA if openapi.V2_PROTOBUF in accept else JSON]
        form = negotiate_discovery(accept).discovery if path in ("/api", "/apis") else ""
        document = self._cache.get((path, form))
        if document is None:
            content = self._content(path, form)
            if content is None:
                return None
            media_type = f"{JSON};g=apidiscovery.k8s.io;v={form};as=APIGroupDiscoveryList" if form else JSON
            document = self._cache[(path, form)] = _document(content, media_type)
        return document

    def _content(self, path: str, form: str) -> Object | None:
        match path.strip("/").split("/"):
            case ["version"]:
                return VERSION
            case ["api"]:
                return self._aggregated(form, core=True) if form else _core_versions()
            case ["apis"]:
                return self._aggregated(form, core=False) if form else self._group_list()
            case ["apis", group]:
                return self._group(group)
            case ["api", version]:
                return self._resource_list("", version)
            case ["apis", group, version]:
                return self._resource_list(group, version)
            case ["openapi", "v3", *rest]:
                return self._openapi_index() if not rest else self._openapi_document(rest)
            case _:
                return None

    def _versions(self, *, core: bool | None = None) -> list[tuple[str, str, list[Resource]]]:
        """Return (group, version, resources), the core group first; `core` selects or excludes that group."""
        selection = [res for res in self._resources if core is None or (res.group == "") is core]
        order = sorted(selection, key=lambda res: (res.group, res.version, res.plural))
        groups = groupby(order, key=lambda res: (res.group, res.version))
        kinds = {names: list(members) for names, members in groups}
        # A group whose kinds are those of subresources alone has no resource; kubectl looks for it before it evicts.
        bodies: dict[tuple[str, str], list[Resource]] = {
            body[:2]: [] for body in _SUBRESOURCE_KINDS.values() if body[0] and core is not True
        }
        return [(group, version, members) for (group, version), members in sorted((bodies | kinds).items())]

    def _group_list(self) -> Object:
        groups = sorted({group for group, _, _ in self._versions(core=False)})
        entries = [self._group(group) for group in groups]
        bodies = [{k: v for k, v in entry.items() if k not in ("kind", "apiVersion")} for entry in entries]
        return {"kind": "APIGroupList", "apiVersion": "v1", "groups": bodies}

    def _group(self, name: str) -> Object:
        versions = [
            {"groupVersion": f"{group}/{version}", "version": version}
            for group, version, _ in self._versions()
            if group == name and group
        ]
        if not versions:
            raise no_such_resource()
        return {
            "kind": "APIGroup",
            "apiVersion": "v1",
            "name": name,
            "versions": versions,
            "preferredVersion": versions[0],
        }

    def _resource_list(self, group: str, version: str) -> Object:
        for served_group, served_version, members in self._versions():
            if (served_group, served_version) == (group, version):
                entries = [entry for res in members for entry in _entries(res)]
                return {
                    "kind": "APIResourceList",
                    "apiVersion": "v1",
                    "groupVersion": f"{group}/{version}" if group else version,
                    "resources": entries,
                }
        raise no_such_resource()

    def _aggregated(self, form: str, *, core: bool) -> Object:
        items = []
        for group, versions in groupby(self._versions(core=core), key=lambda entry: entry[0]):
            entries = [
                {
                    "version": version,
                    "resources": [_aggregate(res) for res in members],
                    "freshness": "Current",
                }
                for _, version, members in versions
            ]
            metadata: Object = {"creationTimestamp": None} | ({"name": group} if group else {})
            items.append({"metadata": metadata, "versions": entries})
        return {
            "kind": "APIGroupDiscoveryList",
            "apiVersion": f"apidiscovery.k8s.io/{form}",
            "metadata": {},
            "items": items,
        }

    def _openapi_index(self) -> Object:
        paths = {}
        for group, version, members in self._versions():
            if not any(res.verbs for res in members):
                continue
            path = f"apis/{group}/{version}" if group else f"api/{version}"
            document = self.answer(f"/openapi/v3/{path}", "")
            if document is not None:
                tag = document.etag.strip('"')
                paths[path] = {"serverRelativeURL": f"/openapi/v3/{path}?hash={tag}"}
        return {"paths": paths}

    def _openapi_document(self, rest: Sequence[str]) -> Object:
        match rest:
            case ["api", version]:
                group = ""
            case ["apis", group, version]:
                pass
            case _:
                raise no_such_resource()
        if not any((res.group, res.version) == (group, version) and res.verbs for res in self._resources):
            raise no_such_resource()
        return openapi.document(self._registry, group, version)


def _with_unserved(resources: Sequence[Resource]) -> Sequence[Resource]:
    """Return the resources that discovery lists: those that are served, and the kinds that are refused by their name."""
    names = {(res.group, res.plural) for res in resources}
    return (*resources, *(res for res in LISTED if (res.group, res.plural) not in names))


def _document(content: Object, content_type: str) -> Document:
    return _with_etag(msgspec.json.encode(content) + b"\n", content_type)


def _core_versions() -> Object:
    return {"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": []}


def _entries(res: Resource) -> Iterable[Object]:
    entry: Object = {
        "name": res.plural,
        "singularName": res.singular or res.kind.lower(),
        "namespaced": res.namespaced,
        "kind": res.kind,
        "verbs": _verbs(res),
    }
    if res.short_names:
        entry["shortNames"] = list(res.short_names)
    if res.categories:
        entry["categories"] = list(res.categories)
    yield entry | {"storageVersionHash": _storage_hash(res)}
    for name in sorted(res.subresources):
        yield {
            "name": f"{res.plural}/{name}",
            "singularName": "",
            "namespaced": res.namespaced,
            **_body(name, res),
            "verbs": list(_SUBRESOURCE_VERBS.get(name, ("get",))),
        }


def _verbs(res: Resource) -> list[str]:
    """Return the verbs in the order of a real API server, which for custom resources is another one."""
    order = VERBS if builtin(res) else _CUSTOM_VERBS
    return [verb for verb in order if verb in res.verbs]


def _storage_hash(res: Resource) -> str:
    """Return the storageVersionHash, computed as discovery.StorageVersionHash does."""
    digest = hashlib.sha256(f"{res.group}/{res.version}/{res.kind}".encode()).digest()
    return base64.b64encode(digest[:8]).decode()


def _aggregate(res: Resource) -> Object:
    entry: Object = {
        "resource": res.plural,
        "responseKind": _kind(res, res.kind),
        "scope": "Namespaced" if res.namespaced else "Cluster",
        "singularResource": res.singular or res.kind.lower(),
        "verbs": _verbs(res),
    }
    if res.short_names:
        entry["shortNames"] = list(res.short_names)
    if res.categories:
        entry["categories"] = list(res.categories)
    if res.subresources:
        entry["subresources"] = [
            {
                "subresource": name,
                "responseKind": _response_kind(name, res),
                "verbs": list(_SUBRESOURCE_VERBS.get(name, ("get",))),
            }
            for name in sorted(res.subresources)
        ]
    return entry


def _kind(res: Resource, kind: str) -> Object:
    return {"group": res.group, "version": res.version, "kind": kind}


def _response_kind(subresource: str, res: Resource) -> Object:
    group, version, kind = _SUBRESOURCE_KINDS.get(subresource, (res.group, res.version, res.kind))
    return {"group": group, "version": version, "kind": kind}


def _body(subresource: str, res: Resource) -> Object:
    """Return the kind of a subresource, with group and version where these are not the resource's own."""
    group, version, kind = _SUBRESOURCE_KINDS.get(subresource, (res.group, res.version, res.kind))
    same = (group, version) == (res.group, res.version)
    return {"kind": kind} if same else {"group": group, "version": version, "kind": kind}
