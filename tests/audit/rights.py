"""The rights that the manifests grant to each component, and its requests in the audit log of an API server."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import yaml

BASE = Path(__file__).parents[2] / "deploy" / "base"
_ACCOUNT = re.compile(r"system:serviceaccount:flexinfer-system:(flexinfer-[a-z]+)")
_BY_RULE = re.compile(r'RBAC: allowed by (?:ClusterRoleBinding|RoleBinding) "(flexinfer-[a-z/-]+)" of ')


class Right(msgspec.Struct, frozen=True, order=True):
    """One verb on one resource, for one ServiceAccount."""

    account: str
    group: str
    resource: str
    verb: str


class Grant(msgspec.Struct, frozen=True):
    """A right that a manifest grants.

    `explained` if a comment at its rule says when the verb is used (`delete: ...`).
    """

    right: Right
    explained: bool


class Request(msgspec.Struct, frozen=True):
    """One request of a FlexInfer ServiceAccount.

    `rule` is the FlexInfer binding that allowed it, or empty.
    """

    right: Right
    path: str
    decision: str
    rule: str


def grants() -> list[Grant]:
    """Return all rights of deploy/base."""
    return [grant for file in sorted(BASE.glob("*.yaml")) for grant in _granted(file.read_text())]


def _granted(text: str) -> Iterator[Grant]:
    parts = re.split(r"^---$", text, flags=re.MULTILINE)
    documents = [(part, obj) for part in parts if "kind" in (obj := yaml.safe_load(part) or {})]
    bound = {
        (obj["roleRef"]["kind"], obj["roleRef"]["name"]): [subject["name"] for subject in obj["subjects"]]
        for _, obj in documents
        if obj["kind"].endswith("Binding") and "subjects" in obj
    }
    for part, obj in documents:
        if obj["kind"] in ("Role", "ClusterRole"):
            for account in bound.get((obj["kind"], obj["metadata"]["name"]), ()):
                yield from _rules(account, part, obj["rules"])


def _rules(account: str, text: str, rules: list[dict[str, Any]]) -> Iterator[Grant]:
    """Yield the rights of a role.

    The comments of a rule are those between its first line and the next rule.
    """
    parts = re.split(r"^  - ", text.partition("\nrules:")[2], flags=re.MULTILINE)[1:]
    for rule, part in zip(rules, parts, strict=True):
        when = " ".join(re.findall(r"# (.*)", part))
        for group in rule.get("apiGroups", ()):
            for resource in rule.get("resources", ()):
                for verb in rule["verbs"]:
                    alone = len(rule["verbs"]) == 1 and bool(when)
                    explained = alone or re.search(rf"\b{verb}: ", when) is not None
                    yield Grant(Right(account, group, resource, verb), explained)


def requests(folder: Path) -> Iterator[Request]:
    """Yield the requests of FlexInfer ServiceAccounts in all logs of a folder."""
    for log in sorted(folder.glob("*.log")):
        for line in log.read_bytes().splitlines():
            entry = msgspec.json.decode(line)
            account = _ACCOUNT.fullmatch(
                entry["user"].get("username", "")
            )  # no username if the request was aborted before authentication
            if account:
                yield _request(account[1], entry)


def _request(account: str, entry: dict[str, Any]) -> Request:
    asked, notes = entry.get("objectRef") or {}, entry.get("annotations") or {}
    resource = "/".join(filter(None, (asked.get("resource", ""), asked.get("subresource", ""))))
    right = Right(account, asked.get("apiGroup", ""), resource, entry["verb"])
    allowed = _BY_RULE.match(notes.get("authorization.k8s.io/reason", ""))
    decision = notes.get("authorization.k8s.io/decision", "")
    return Request(right, entry["requestURI"], decision, allowed[1] if allowed else "")
