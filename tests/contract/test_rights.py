"""The table of rights equals the Roles, and equals what the code calls: no right too many, none too few."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from flexinfer.api.installation import CLIENT_ROLE
from flexinfer.credentials.secrets import API_KEY_SECRET, secret_of
from flexinfer.events.permissions import TAP
from flexinfer.runtime.kubernetes import api
from flexinfer.watcher.cache import KINDS
from tests.cluster.rights import RIGHTS, SYSTEM
from tests.manifests import ROOT, objects

BASE = objects("base")
VERBS = {
    "get": "get",
    "list": "list",
    "watch": "watch",
    "create": "create",
    "replace": "update",
    "apply": "patch",
    "patch": "patch",
    "merge": "patch",
    "delete": "delete",
}
CONTROLLERS = ("placer", "prefetcher", "launcher", "reaper", "arbiter")
RUNTIME = ROOT / "shared" / "flexinfer" / "runtime"

Grant = tuple[str, str, str, str, tuple[str, ...]]
"""Group, resource, verb, namespace (empty: everywhere), names (none: all)."""


def granted(service: str) -> set[Grant]:
    """Return what the manifests bind to a ServiceAccount."""
    found: set[Grant] = set()
    for binding in BASE:
        if binding["kind"] not in ("RoleBinding", "ClusterRoleBinding"):
            continue
        who = [(subject["name"], subject["namespace"]) for subject in binding["subjects"]]
        if who != [(f"flexinfer-{service}", SYSTEM)]:
            continue
        reference = binding["roleRef"]
        role = next(
            o for o in BASE if (o["kind"], o["metadata"]["name"]) == (reference["kind"], reference["name"])
        )
        namespace = binding["metadata"].get("namespace", "")
        for rule in role["rules"]:
            found |= {
                (group, resource, verb, namespace, tuple(rule.get("resourceNames", ())))
                for group in rule["apiGroups"]
                for resource in rule["resources"]
                for verb in rule["verbs"]
            }
    return found


def tabled(service: str) -> set[Grant]:
    """Return what the table says."""
    return {
        (right.group, right.resource, verb, right.namespace, right.names)
        for right in RIGHTS[service]
        for verb in right.verbs
    }


def called(paths: list[Path]) -> set[tuple[str, str, str]]:
    """Return group, resource and verb of every call of the Kubernetes API in some files."""
    return {call for path in paths for call in _calls(ast.parse(path.read_text()))}


def _calls(tree: ast.AST) -> Iterator[tuple[str, str, str]]:
    for node in ast.walk(tree):
        match node:
            case ast.Call(func=ast.Name(id="get_or_none"), args=[cluster, name, *_]):
                method = "get"
            case ast.Call(func=ast.Attribute(attr=method, value=cluster), args=[name, *_]):
                pass
            case _:
                continue
        if method not in VERBS or ast.unparse(cluster).rpartition(".")[2] != "cluster":
            continue
        assert isinstance(name, ast.Name), ast.unparse(node)
        status = any(k.arg == "subresource" for k in node.keywords)
        for kind in KINDS if name.id == "kind" else (_kind(name.id),):
            resource = f"{kind.plural}/status" if status else kind.plural
            group = kind.api_version.rpartition("/")[0]
            yield group, resource, VERBS[method]


def _kind(name: str) -> api.Kind[object]:
    if name == "SECRETS":
        from flexinfer.credentials.secrets import SECRETS  # noqa: PLC0415 -- the one kind that no service shares

        return SECRETS  # type: ignore[return-value]
    found: api.Kind[object] = getattr(api, name)
    return found


def sources(service: str) -> list[Path]:
    """Return the files that run in a service's process and may ask the API for something."""
    files = sorted((ROOT / "services" / "flexinfer" / service).rglob("*.py"))
    if service in CONTROLLERS:
        return [
            *files,
            *(
                RUNTIME / f"{name}.py"
                for name in ("controller", "status_writer", "event_recorder", "leader_election")
            ),
        ]
    own = (RUNTIME / f"{name}.py" for name in ("status_writer", "event_recorder", "leader_election"))
    return [*files, *own] if service == "watcher" else files


@pytest.mark.parametrize("service", RIGHTS)
def test_the_roles_say_what_the_table_says(service: str) -> None:
    """Each ServiceAccount, by all that is bound to it."""
    assert granted(service) == tabled(service)


@pytest.mark.parametrize("service", RIGHTS)
def test_the_code_calls_what_the_table_says_and_nothing_else(service: str) -> None:
    """Read from the calls themselves; what is kept for others carries a sentence that says when."""
    kept = {
        (right.group, right.resource, verb)
        for right in RIGHTS[service]
        for verb in right.verbs
        if "no request of ours" in right.seldom
    }
    assert called(sources(service)) == {grant[:3] for grant in tabled(service)} - kept


def test_nothing_is_bound_to_anybody_else() -> None:
    """No group, no user, no other namespace's ServiceAccount."""
    bindings = [o for o in BASE if o["kind"] in ("RoleBinding", "ClusterRoleBinding")]
    bound = {subject["name"].removeprefix("flexinfer-") for o in bindings for subject in o["subjects"]}
    assert bound == set(RIGHTS)
    assert all(len(o["subjects"]) == 1 and o["subjects"][0]["kind"] == "ServiceAccount" for o in bindings)


def test_no_rule_has_a_wildcard() -> None:
    """Neither for verbs nor for what they are about."""
    for role in (o for o in BASE if o["kind"] in ("Role", "ClusterRole")):
        for rule in role["rules"]:
            assert "*" not in (*rule["apiGroups"], *rule["resources"], *rule["verbs"])


def test_the_role_of_people_names_the_secrets_that_the_command_line_reads() -> None:
    """As rendered: kustomize rewrites names that it takes for those of generated objects."""
    (role,) = [o for o in BASE if (o["kind"], o["metadata"]["name"]) == ("Role", CLIENT_ROLE)]
    named = {rule["resources"][0]: set(rule.get("resourceNames", ())) for rule in role["rules"]}
    assert named["secrets"] == {API_KEY_SECRET, secret_of(TAP)}
    assert named["services"] == set()
