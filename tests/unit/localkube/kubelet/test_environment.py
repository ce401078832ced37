"""Environment: variables by kubelet's rules."""

import pytest

from localkube.kubelet.environment import ConfigError, Facts, Source, inherited, references, variables

POD = {
    "metadata": {"name": "a-0", "namespace": "ai", "uid": "u", "labels": {"turn": "3"}},
    "spec": {"nodeName": "local"},
}


def facts(**sources: Source) -> Facts:
    """Return a Pod's facts, with ConfigMaps by name."""
    return Facts(
        POD, "127.64.0.1", "127.0.0.1", {("configMapRef", name): data for name, data in sources.items()}
    )


def test_fields_of_the_pod_and_earlier_variables_can_be_used() -> None:
    """In the order of the list."""
    container = {
        "env": [
            {"name": "POD_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
            {"name": "UID", "valueFrom": {"fieldRef": {"fieldPath": "metadata.uid"}}},
            {"name": "TURN", "valueFrom": {"fieldRef": {"fieldPath": "metadata.labels['turn']"}}},
            {"name": "URL", "value": "http://$(POD_IP):80/$(LATER)"},
            {"name": "LATER", "value": "x"},
        ]
    }
    assert variables(container, facts()) == {
        "POD_IP": "127.64.0.1",
        "UID": "u",
        "TURN": "3",
        "URL": "http://127.64.0.1:80/$(LATER)",
        "LATER": "x",
    }


def test_config_maps_are_read_whole_and_by_key() -> None:
    """A variable of its own wins over a whole ConfigMap."""
    container = {
        "envFrom": [{"prefix": "P_", "configMapRef": {"name": "all"}}],
        "env": [
            {"name": "P_A", "value": "mine"},
            {"name": "K", "valueFrom": {"configMapKeyRef": {"name": "all", "key": "B"}}},
            {"name": "O", "valueFrom": {"configMapKeyRef": {"name": "none", "key": "B", "optional": True}}},
        ],
    }
    known = facts(all={"A": "1", "B": "2"}, none=None)
    assert variables(container, known) == {"P_A": "mine", "P_B": "2", "K": "2"}
    assert set(references(container)) == {("configMapRef", "all"), ("configMapRef", "none")}


@pytest.mark.parametrize(
    ("origin", "words"),
    [
        pytest.param(
            {"configMapKeyRef": {"name": "none", "key": "k"}}, 'configmap "none" not found', id="missing"
        ),
        pytest.param(
            {"configMapKeyRef": {"name": "all", "key": "k"}}, "couldn't find key k", id="no such key"
        ),
        pytest.param(
            {"fieldRef": {"fieldPath": "spec.nothing"}}, "spec.nothing cannot be referred to", id="field"
        ),
        pytest.param({"fileKeyRef": {}}, "valueFrom of fileKeyRef is not offered", id="kind"),
    ],
)
def test_what_is_missing_is_named(origin: dict[str, object], words: str) -> None:
    """So that the container's status can say it."""
    container = {"env": [{"name": "X", "valueFrom": origin}]}
    with pytest.raises(ConfigError, match=words):
        variables(container, facts(all={}, none=None))


def test_of_the_nodes_own_variables_only_the_plain_ones_leak_in() -> None:
    """No credential and no setting of FlexInfer."""
    assert inherited({"PATH": "/bin", "FLEXINFER_PROCESS": "x", "HF_TOKEN": "s"}) == {"PATH": "/bin"}
