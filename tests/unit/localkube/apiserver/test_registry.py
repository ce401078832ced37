"""Built-in kinds, installed definitions, and the validation of objects."""

import copy
import time
from typing import Any

import pytest
import yaml

from localkube.apiserver.builtin_resources import builtin_registry
from localkube.apiserver.errors import ApiError
from localkube.apiserver.registry import Registry
from localkube.apiserver.resources import Object, Resource
from tests.definitions import MODELS, a_plain_model, a_registry
from tests.patience import patient

CRD = ("apiextensions.k8s.io", "v1", "customresourcedefinitions")
WIDGETS: Object = {
    "apiVersion": "apiextensions.k8s.io/v1",
    "kind": "CustomResourceDefinition",
    "metadata": {"name": "widgets.example.org"},
    "spec": {
        "group": "example.org",
        "scope": "Cluster",
        "names": {"plural": "widgets", "kind": "Widget"},
        "versions": [
            {
                "name": "v1",
                "served": True,
                "storage": True,
                "schema": {
                    "openAPIV3Schema": {
                        "type": "object",
                        "properties": {
                            "spec": {"type": "object", "properties": {"size": {"type": "integer"}}}
                        },
                    }
                },
            }
        ],
    },
}


def resource(registry: Registry, group: str, version: str, plural: str) -> Resource:
    """Return a resource that must be served."""
    res = registry.find(group, version, plural)
    assert res is not None
    return res


def refused(
    registry: Registry, res: Resource, obj: Object, old: Object | None = None, **options: Any
) -> ApiError:
    """Return the error of an object that must be refused."""
    with pytest.raises(ApiError) as error:
        registry.admit(res, obj, old, **options)
    return error.value


def test_offers_the_built_in_kinds() -> None:
    """By group, version and plural name."""
    names = {f"{res.api_version}/{res.plural}" for res in builtin_registry().resources()}
    assert names == {
        "v1/pods",
        "v1/services",
        "v1/serviceaccounts",
        "v1/configmaps",
        "v1/secrets",
        "v1/persistentvolumeclaims",
        "v1/persistentvolumes",
        "v1/nodes",
        "v1/namespaces",
        "v1/events",
        "batch/v1/jobs",
        "coordination.k8s.io/v1/leases",
        "storage.k8s.io/v1/storageclasses",
        "apiextensions.k8s.io/v1/customresourcedefinitions",
    }


def test_offers_what_a_definition_defines_until_it_is_removed() -> None:
    """The version of the registry increases each time."""
    registry = builtin_registry()
    crd = registry.admit(resource(registry, *CRD), WIDGETS, None, validation="Strict").obj
    registry.install(crd)
    offered = registry.find("example.org", "v1", "widgets")
    registry.remove(crd)
    assert (offered, registry.find("example.org", "v1", "widgets"), registry.version) == (
        Resource("example.org", "v1", "widgets", "Widget", namespaced=False, singular="widget"),
        None,
        3,
    )


def test_a_changed_definition_replaces_the_previous_one() -> None:
    """A field that is no longer specified is pruned."""
    registry, crd = builtin_registry(), copy.deepcopy(WIDGETS)
    registry.install(crd)
    crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"] = {
        "depth": {"type": "integer"}
    }
    registry.install(crd)
    widget = {"metadata": {"name": "w"}, "spec": {"size": 1, "depth": 2}}
    assert registry.admit(resource(registry, "example.org", "v1", "widgets"), widget, None).obj["spec"] == {
        "depth": 2
    }


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"metadata": {"name": "gadgets.example.org"}}, 'must be spec.names.plural+"."+spec.group'),
        ({"spec": WIDGETS["spec"] | {"scope": "Galaxy"}}, 'spec.scope: Unsupported value: "Galaxy"'),
        ({"spec": WIDGETS["spec"] | {"versions": []}}, "exactly one version marked as storage version"),
    ],
)
def test_refuses_a_definition_that_is_wrong(change: Object, message: str) -> None:
    """At once, when it is written."""
    registry = builtin_registry()
    assert message in refused(registry, resource(registry, *CRD), WIDGETS | change).message


def test_refuses_a_definition_whose_rule_does_not_compile() -> None:
    """With the path of the rule."""
    registry, crd = builtin_registry(), copy.deepcopy(WIDGETS)
    crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["x-kubernetes-validations"] = [{"rule": "self.("}]
    error = refused(registry, resource(registry, *CRD), crd)
    assert (error.code, "x-kubernetes-validations[0].rule" in error.message) == (422, True)


def test_strict_validation_refuses_unknown_fields_by_name() -> None:
    """With the message of a real API server."""
    registry = a_registry()
    model = a_plain_model()
    model["spec"] |= {"foo": 1, "gpu": {"bar": 2}}
    error = refused(registry, MODELS, model, validation="Strict")
    assert (error.code, error.reason, error.message) == (
        400,
        "BadRequest",
        (
            'Model in version "v1alpha2" cannot be handled as a Model: strict decoding error: '
            'unknown field "spec.foo", unknown field "spec.gpu.bar"'
        ),
    )


@pytest.mark.parametrize(
    ("validation", "warnings"), [("Warn", ('unknown field "spec.foo"',)), ("Ignore", ())]
)
def test_otherwise_unknown_fields_are_pruned(validation: str, warnings: tuple[str, ...]) -> None:
    """Warn says so, Ignore does not."""
    model = a_plain_model()
    model["spec"]["foo"] = 1
    admitted = a_registry().admit(MODELS, model, None, validation=validation)
    assert ("foo" in admitted.obj["spec"], admitted.warnings) == (False, warnings)


def test_unknown_metadata_is_unknown_too() -> None:
    """ObjectMeta is part of every schema."""
    model = a_plain_model()
    model["metadata"]["clusterName"] = "x"
    assert (
        'unknown field "metadata.clusterName"'
        in refused(a_registry(), MODELS, model, validation="Strict").message
    )


def test_reports_all_violations_at_once() -> None:
    """Each as a cause."""
    model = a_plain_model() | {"spec": {"source": "HF://a/b", "config": 5}}
    error = refused(a_registry(), MODELS, model)
    assert [cause["field"] for cause in (error.details or {})["causes"]] == [
        "spec.backend",
        "spec.config",
        "<nil>",
    ]


@pytest.mark.parametrize(
    ("plural", "name"),
    [
        ("services", "1a"),
        ("namespaces", "a.b"),
        ("configmaps", "A"),
        ("configmaps", "a" * 254),
        ("pods", "a/b"),
    ],
)
def test_refuses_a_name_that_is_none(plural: str, name: str) -> None:
    """By the rules of its kind."""
    registry = builtin_registry()
    obj = {"metadata": {"name": name}, "spec": {"containers": [{"name": "a"}]} if plural == "pods" else {}}
    assert (
        "metadata.name: Invalid value" in refused(registry, resource(registry, "", "v1", plural), obj).message
    )


@pytest.mark.parametrize(
    ("part", "value"),
    [
        ("labels", {"a b": "c"}),
        ("labels", {"a": "b c"}),
        ("labels", {"a": "b" * 64}),
        ("labels", {"A/b": "c"}),
        ("annotations", {"a/b/c": "d"}),
        ("annotations", {"a": "x" * 300_000}),
        ("finalizers", ["a b"]),
    ],
)
def test_refuses_metadata_that_kubernetes_would_not_take(part: str, value: Any) -> None:
    """Keys, values and sizes."""
    model = a_plain_model()
    model["metadata"][part] = value
    assert f"metadata.{part}: " in refused(a_registry(), MODELS, model).message


def a_pod(**spec: Any) -> Object:
    """Return a Pod as it is stored."""
    registry = builtin_registry()
    pod = {"metadata": {"name": "p"}, "spec": {"containers": [{"name": "a", "image": "x:1"}]} | spec}
    stored: Object = registry.admit(resource(registry, "", "v1", "pods"), pod, None, validation="Strict").obj
    return stored


GATED = a_pod(schedulingGates=[{"name": "g"}])


@pytest.mark.parametrize(
    ("old", "change"),
    [
        pytest.param(GATED, {"schedulingGates": []}, id="a gate is removed"),
        pytest.param(GATED, {"nodeSelector": {"a": "b"}}, id="a gated Pod gets a selector"),
        pytest.param(a_pod(), {"nodeName": "n"}, id="a node is set"),
        pytest.param(a_pod(), {"tolerations": [{"key": "k"}]}, id="a toleration is added"),
        pytest.param(a_pod(), {"containers": [{"name": "a", "image": "x:2"}]}, id="an image changes"),
    ],
)
def test_a_pod_has_mutable_fields(old: Object, change: Object) -> None:
    """Those of Kubernetes."""
    registry = builtin_registry()
    new = copy.deepcopy(old)
    new["spec"] |= change
    registry.admit(resource(registry, "", "v1", "pods"), new, old)


@pytest.mark.parametrize(
    ("old", "change", "field"),
    [
        pytest.param(
            a_pod(), {"schedulingGates": [{"name": "g"}]}, "spec.schedulingGates", id="a gate is added"
        ),
        pytest.param(a_pod(), {"nodeSelector": {"a": "b"}}, "spec", id="a selector is added"),
        pytest.param(a_pod(nodeName="n"), {"nodeName": "m"}, "spec", id="another node"),
        pytest.param(
            a_pod(), {"containers": [{"name": "a", "image": "x:1", "args": ["b"]}]}, "spec", id="an argument"
        ),
    ],
)
def test_other_fields_of_a_pod_are_immutable(old: Object, change: Object, field: str) -> None:
    """A Pod is re-created instead."""
    registry = builtin_registry()
    new = copy.deepcopy(old)
    new["spec"] |= change
    error = refused(registry, resource(registry, "", "v1", "pods"), new, old)
    assert [cause["field"] for cause in (error.details or {})["causes"]] == [field]


def test_a_job_gets_a_selector_and_its_template_is_immutable() -> None:
    """Labels and selector are derived from its uid."""
    registry = builtin_registry()
    jobs = resource(registry, "batch", "v1", "jobs")
    job = {
        "metadata": {"name": "j", "uid": "u"},
        "spec": {
            "template": {"spec": {"restartPolicy": "Never", "containers": [{"name": "a", "image": "x:1"}]}}
        },
    }
    stored = registry.admit(jobs, job, None, validation="Strict").obj
    changed = copy.deepcopy(stored)
    changed["spec"]["template"]["spec"]["restartPolicy"] = "OnFailure"
    error = refused(registry, jobs, changed, stored)
    assert stored["spec"]["selector"] == {"matchLabels": {"batch.kubernetes.io/controller-uid": "u"}}
    assert stored["spec"]["template"]["metadata"]["labels"]["job-name"] == "j"
    assert error.message == 'Job.batch "j" is invalid: spec.template: Invalid value: field is immutable'


def test_defaults_the_fields_of_a_pod() -> None:
    """Policies, grace period and probes, as the kubelet expects them."""
    registry = builtin_registry()
    pod = {
        "metadata": {"name": "p"},
        "spec": {
            "containers": [
                {"name": "a", "image": "example.org/x:1", "readinessProbe": {"httpGet": {"port": 80}}},
                {"name": "b", "image": "example.org:5000/x"},
            ]
        },
    }
    spec = registry.admit(resource(registry, "", "v1", "pods"), pod, None, validation="Strict").obj["spec"]
    first, second = spec["containers"]
    assert (first["imagePullPolicy"], second["imagePullPolicy"]) == ("IfNotPresent", "Always")
    assert first["readinessProbe"] == {
        "httpGet": {"port": 80, "path": "/", "scheme": "HTTP"},
        "timeoutSeconds": 1,
        "periodSeconds": 10,
        "successThreshold": 1,
        "failureThreshold": 3,
    }
    assert (spec["restartPolicy"], spec["terminationGracePeriodSeconds"]) == ("Always", 30)


def test_keeps_a_volume_of_an_unsupported_type() -> None:
    """The kubelet names it in an Event."""
    registry = builtin_registry()
    volume = {"name": "v", "nfs": {"server": "s", "path": "/"}}
    pod = {
        "metadata": {"name": "p"},
        "spec": {"containers": [{"name": "a", "image": "x"}], "volumes": [volume]},
    }
    admitted = registry.admit(resource(registry, "", "v1", "pods"), pod, None, validation="Strict")
    assert admitted.obj["spec"]["volumes"] == [volume]


def test_stores_the_string_data_of_a_secret_as_data() -> None:
    """The field stringData is write-only."""
    registry = builtin_registry()
    secret = {"metadata": {"name": "s"}, "stringData": {"key": "word"}}
    admitted = registry.admit(resource(registry, "", "v1", "secrets"), secret, None).obj
    assert (admitted["data"], "stringData" in admitted) == ({"key": "d29yZA=="}, False)


def test_returns_columns_and_selectable_fields() -> None:
    """Those of the definition."""
    registry = a_registry()
    assert [(column.name, column.priority) for column in registry.columns(MODELS)] == [
        ("Phase", 0),
        ("Ready", 0),
        ("Reason", 0),
        ("Backend", 0),
        ("Node", 0),
        ("Cache", 0),
        ("Age", 0),
        ("Shared", 1),
        ("Priority", 1),
        ("Position", 1),
        ("Expected", 1),
        ("Endpoint", 1),
        ("Source", 1),
    ]
    assert registry.selectable_fields(MODELS)[2:] == ("spec.gpu.shared", "spec.backend")


def test_a_schema_is_the_same_object_until_it_changes() -> None:
    """Caches of compiled schemas compare it by identity."""
    registry = a_registry()
    assert registry.schema(MODELS) is registry.schema(MODELS)


def test_finds_a_kind_by_its_api_version() -> None:
    """And kind; None if it is not served."""
    registry = a_registry()
    assert [registry.kind("ai.flexinfer/v1alpha2", "Model"), registry.kind("v1", "Model")] == [MODELS, None]


def test_a_definition_comes_from_yaml_with_its_names_completed() -> None:
    """The fields singular and listKind are defaulted."""
    registry = builtin_registry()
    admitted = registry.admit(resource(registry, *CRD), yaml.safe_load(yaml.safe_dump(WIDGETS)), None).obj
    assert admitted["spec"]["names"] == {
        "plural": "widgets",
        "kind": "Widget",
        "singular": "widget",
        "listKind": "WidgetList",
    }


def test_a_status_write_costs_little() -> None:
    """Simulations do thousands a second: the best of many takes far less than a millisecond."""
    registry = a_registry()
    old = registry.admit(MODELS, a_plain_model(), None).obj
    conditions = [
        {
            "type": kind,
            "status": "True",
            "reason": "R",
            "message": "m",
            "lastTransitionTime": "2026-11-01T00:00:00Z",
        }
        for kind in ("Accepted", "Placed", "Cached", "Wanted", "Granted", "Ready")
    ]
    best = 1.0
    for turn in range(200):
        new = copy.deepcopy(old) | {
            "status": {"phase": "Ready", "message": str(turn), "conditions": conditions}
        }
        start = time.perf_counter()
        registry.admit(MODELS, new, old, subresource="status")
        best = min(best, time.perf_counter() - start)
    assert best < patient(0.0005)
