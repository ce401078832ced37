"""JSONPath of printer columns."""

import pytest

from localkube.apiserver.jsonpath import JsonPathError, compile_path

MODEL = {
    "metadata": {"name": "m", "annotations": {"a.b/c": "x"}},
    "status": {
        "conditions": [
            {"type": "Wanted", "status": "False"},
            {"type": "Ready", "status": "True", "reason": "Up"},
        ],
        "nodes": [1, 2, 3],
        "nothing": None,
        "idle": False,
    },
}


@pytest.mark.parametrize(
    ("path", "values"),
    [
        (".metadata.name", ["m"]),
        (".metadata.absent.name", []),
        (".status.nothing", []),
        (".status.idle", [False]),
        ('.status.conditions[?(@.type=="Ready")].reason', ["Up"]),
        (".status.conditions[?(@.type=='Ready')].status", ["True"]),
        ('.status.conditions[?(@.type!="Ready")].status', ["False"]),
        (".status.conditions[?(@.reason)].type", ["Ready"]),
        ('.status.conditions[?(@.type == "Gone")].status', []),
        (".status.nodes[1]", [2]),
        (".status.nodes[-1]", [3]),
        (".status.nodes[7]", []),
        (".status.nodes[*]", [1, 2, 3]),
        (".status.conditions[*].type", ["Wanted", "Ready"]),
        (r".metadata.annotations.a\.b/c", ["x"]),
        (".metadata.annotations['a.b/c']", ["x"]),
        (".metadata.name.inner", []),
    ],
)
def test_a_path_selects_values(path: str, values: list[object]) -> None:
    """Names, escapes, indexes, filters; a missing or null field has no value."""
    assert compile_path(path)(MODEL) == values


@pytest.mark.parametrize("path", ["status", "..name", ".a[1:2]", ".a[?(@.b==c)]", ".a["])
def test_an_unsupported_path_is_refused(path: str) -> None:
    """At compilation, not when it is evaluated."""
    with pytest.raises(JsonPathError):
        compile_path(path)
