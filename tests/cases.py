"""An accepted and a refused Model for each rule of the CRD: part of its message -> (accepted, refused)."""

from typing import Any, TypeAlias

Object: TypeAlias = dict[str, Any]
CASES: dict[str, tuple[Object, Object]] = {
    "at most 40 characters": ({"name": "a" * 40}, {"name": "a" * 41}),
    "begin with a lower case letter": ({"name": "a-1"}, {"name": "1-a"}),
    "must be one of HF://": ({"source": "HF://a/b"}, {"source": "s3://a/b"}),
    "'.' or '..' as a part": ({"source": "pvc://a/b..c"}, {"source": "pvc://a/../c"}),
    "as no name on the hub does": ({"source": "HF://a/b-c"}, {"source": "HF://a/b--c"}),
    "which uses no GPU": ({"gpu": {"vendor": "nvidia", "count": 1}}, {"gpu": {"vendor": "cpu", "count": 1}}),
    "which has no GPU memory": (
        {"gpu": {"vendor": "auto", "vramEstimateMB": 1}},
        {"gpu": {"vendor": "cpu", "vramEstimateMB": 1}},
    ),
    "which has no GPU; leave out gpu.exclusive": (
        {"gpu": {"shared": "g", "exclusive": True}},
        {"gpu": {"vendor": "cpu", "exclusive": True}},
    ),
    "which has no GPU to share": ({"gpu": {"shared": "g"}}, {"gpu": {"vendor": "cpu", "shared": "g"}}),
    "between 1s and 168h": (
        {"serverless": {"idleTimeout": "168h"}},
        {"serverless": {"idleTimeout": "168h1ms"}},
    ),
    "between 1s and 2h": (
        {"serverless": {"coldStartTimeout": "2h"}},
        {"serverless": {"coldStartTimeout": "999ms"}},
    ),
    "must not name a GPU resource": (
        {"resources": {"limits": {"cpu": 2, "memory": "4Gi"}, "requests": {"cpu": "500m"}}},
        {"resources": {"limits": {"nvidia.com/gpu": 1}}},
    ),
    "names of at most 317 characters": (
        {"resources": {"requests": {"a" * 317: 1}}},
        {"resources": {"requests": {"a" * 318: 1}}},
    ),
    "must not be negative": (
        {"resources": {"limits": {"memory": "4Gi"}, "requests": {"cpu": "+1e-1"}}},
        {"resources": {"limits": {"memory": "-4Gi"}}},
    ),
    "must be set unless operator is Exists": (
        {"tolerations": [{"operator": "Exists"}, {"key": "team", "value": "x", "effect": "NoSchedule"}]},
        {"tolerations": [{"value": "x"}]},
    ),
    "which covers every value": (
        {"tolerations": [{"key": "team", "operator": "Equal", "value": "x"}]},
        {"tolerations": [{"key": "team", "operator": "Exists", "value": "x"}]},
    ),
    "the only one that evicts": (
        {"tolerations": [{"key": "team", "effect": "NoExecute", "tolerationSeconds": 5}]},
        {"tolerations": [{"key": "team", "effect": "NoSchedule", "tolerationSeconds": 5}]},
    ),
    "keys of 1 to 317 characters": ({"nodeSelector": {"a.b/c": "d"}}, {"nodeSelector": {"a" * 318: "d"}}),
    "which is the value then": (
        {
            "env": [
                {"name": "A", "value": "x"},
                {"name": "B", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}},
            ]
        },
        {"env": [{"name": "A", "value": "x", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}]},
    ),
    "one of secretKeyRef and configMapKeyRef": (
        {"env": [{"name": "A", "valueFrom": {"configMapKeyRef": {"name": "s", "key": "k"}}}]},
        {"env": [{"name": "A", "valueFrom": {}}]},
    ),
}
