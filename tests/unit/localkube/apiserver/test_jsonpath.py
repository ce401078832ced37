"""JSONPath as printer columns use it."""

import pytest

from localkube.apiserver.jsonpath import PathError, compiled

MODEL = {
    "metadata": {"name": "m", "annotations": {"a.b/c": "x"}},
    "status": {
        "conditions": [
            {"type": "Wanted", "status": "False"},
            {"type": "Ready", "status": "True", "reason": "Up"},
        ],
        "nodes": [1, 2, 3],
        "nothing": None,
        "asleep": False,
    },
}


@pytest.mark.parametrize(
    ("path", "found"),
    [
        (".metadata.name", ["m"]),
        (".metadata.absent.name", []),
        (".status.nothing", []),
        (".status.asleep", [False]),
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
def test_a_path_finds_its_values(path: str, found: list[object]) -> None:
    """Names, escapes, indexes, filters; what is missing is no value."""
    assert compiled(path)(MODEL) == found


@pytest.mark.parametrize("path", ["status", "..name", ".a[1:2]", ".a[?(@.b==c)]", ".a["])
def test_a_path_beyond_the_language_is_refused(path: str) -> None:
    """Said when a column is defined, not when it is printed."""
    with pytest.raises(PathError):
        compiled(path)
