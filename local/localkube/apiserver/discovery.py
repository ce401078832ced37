"""Discovery: what the API offers, told in both forms that clients ask for, and the index of its OpenAPI documents.

Documents are made once for a set of resources, and again only when a definition came or went.
"""

import base64
import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

import msgspec

from localkube.apiserver import openapi
from localkube.apiserver.content_negotiation import JSON, discovery_form
from localkube.apiserver.errors import no_such_resource
from localkube.apiserver.registry import Registry
from localkube.apiserver.resource_strategy import builtin
from localkube.apiserver.resources import VERBS, Object, Resource

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
    "finalize": ("update",),
}
_CUSTOM_VERBS = ("delete", "deletecollection", "get", "list", "patch", "create", "update", "watch")
_SUBRESOURCE_KINDS = {"binding": "Binding"}


@dataclass(frozen=True, slots=True)
class Document:
    """One answer, ready to send."""

    body: bytes
    content_type: str
    etag: str


def _sealed(body: bytes, content_type: str) -> Document:
    """Return a document whose tag changes with it: kubectl keeps answers on disk, by address alone."""
    tag = hashlib.sha256(content_type.encode() + b"\0" + body).hexdigest()[:32].upper()
    return Document(body, content_type, f'"{tag}"')


_OPENAPI_V2 = _sealed(
    b"\x0a\x032.0"  # swagger: "2.0"
    b"\x12\x0f\x0a\x09localkube\x12\x02v1"  # info: title, version
    b"\x42\x00",  # paths: none
    "application/com.github.proto-openapi.spec.v2.v1.0+protobuf",
)
"""kubectl 1.37 asks for version 2 before it applies a `kind: List`, in protobuf alone. A document without definitions makes it
leave the checking to the server, which is asked to be strict."""


class Discovery:
    """Answers /api, /apis, /version and /openapi/v3 for what the registry offers now."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._resources: Sequence[Resource] = ()
        self._made_for = 0
        self._made: dict[tuple[str, str], Document] = {}

    def answer(self, path: str, accept: str) -> Document | None:
        """Return the document of a path; None when the path is none of discovery's."""
        if self._registry.version != self._made_for:
            self._made_for, self._made = self._registry.version, {}
            self._resources = self._registry.resources()
        if path == "/openapi/v2":
            return _OPENAPI_V2
        form = discovery_form(accept).discovery if path in ("/api", "/apis") else ""
        known = self._made.get((path, form))
        if known is None:
            content = self._content(path, form)
            if content is None:
                return None
            kind = f"{JSON};g=apidiscovery.k8s.io;v={form};as=APIGroupDiscoveryList" if form else JSON
            known = self._made[(path, form)] = _document(content, kind)
        return known

    def _content(self, path: str, form: str) -> Object | None:
        match path.strip("/").split("/"):
            case ["version"]:
                return VERSION
            case ["api"]:
                return self._aggregated(form, core=True) if form else _legacy_versions()
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
        """Return (group, version, resources) in a stable order: the core group first."""
        chosen = [res for res in self._resources if core is None or (res.group == "") is core]
        ordered = sorted(chosen, key=lambda res: (res.group, res.version, res.plural))
        grouped = groupby(ordered, key=lambda res: (res.group, res.version))
        return [(group, version, list(members)) for (group, version), members in grouped]

    def _group_list(self) -> Object:
        groups = sorted({res.group for res in self._resources if res.group})
        entries = [self._group(group) for group in groups]
        plain = [{k: v for k, v in entry.items() if k not in ("kind", "apiVersion")} for entry in entries]
        return {"kind": "APIGroupList", "apiVersion": "v1", "groups": plain}

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
        for known_group, known_version, members in self._versions():
            if (known_group, known_version) == (group, version):
                entries = [entry for res in members for entry in _entries(res)]
                return {
                    "kind": "APIResourceList",
                    "apiVersion": "v1",
                    "groupVersion": members[0].api_version,
                    "resources": entries,
                }
        raise no_such_resource()

    def _aggregated(self, form: str, *, core: bool) -> Object:
        items = []
        for group, versions in groupby(self._versions(core=core), key=lambda entry: entry[0]):
            told = [
                {
                    "version": version,
                    "resources": [_aggregate(res) for res in members],
                    "freshness": "Current",
                }
                for _, version, members in versions
            ]
            metadata: Object = {"creationTimestamp": None} | ({"name": group} if group else {})
            items.append({"metadata": metadata, "versions": told})
        return {
            "kind": "APIGroupDiscoveryList",
            "apiVersion": f"apidiscovery.k8s.io/{form}",
            "metadata": {},
            "items": items,
        }

    def _openapi_index(self) -> Object:
        paths = {}
        for group, version, _ in self._versions():
            path = f"apis/{group}/{version}" if group else f"api/{version}"
            made = self.answer(f"/openapi/v3/{path}", "")
            if made is not None:
                tag = made.etag.strip('"')
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
        if not any((res.group, res.version) == (group, version) for res in self._resources):
            raise no_such_resource()
        return openapi.document(self._registry, group, version)


def _document(content: Object, content_type: str) -> Document:
    return _sealed(msgspec.json.encode(content) + b"\n", content_type)


def _legacy_versions() -> Object:
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
            "kind": _SUBRESOURCE_KINDS.get(name, res.kind),
            "verbs": list(_SUBRESOURCE_VERBS.get(name, ("get",))),
        }


def _verbs(res: Resource) -> list[str]:
    """Return the verbs in the order in which a real server tells them."""
    order = VERBS if builtin(res) else _CUSTOM_VERBS
    return [verb for verb in order if verb in res.verbs]


def _storage_hash(res: Resource) -> str:
    """Return how a real server tells in which version it stores a kind, made as it is made there."""
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
                "responseKind": _kind(res, _SUBRESOURCE_KINDS.get(name, res.kind)),
                "verbs": list(_SUBRESOURCE_VERBS.get(name, ("get",))),
            }
            for name in sorted(res.subresources)
        ]
    return entry


def _kind(res: Resource, kind: str) -> Object:
    return {"group": res.group, "version": res.version, "kind": kind}
