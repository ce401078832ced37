"""The plane: what four processes are started with, and from which files."""

import stat
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.x509.oid import NameOID

from flexinfer.local.controlplane import files, processes
from flexinfer.local.instance import PLANE, REAL, Instance, InstanceError, ensure
from flexinfer.local.supervisor import provisioning
from flexinfer.local.supervisor.program import API, NODE, STORES, Program
from localkube.controlplane import catalogue
from localkube.identities import API_SERVER

PATHS = {source.name: Path("/programs") / source.name for source in catalogue.CONTROL_PLANE}


def an_instance(folder: Path, world: str = REAL, *, audit: bool = False) -> Instance:
    """Return an instance with its files in place."""
    instance = ensure(folder, api=world)
    provisioning.write_files(instance)
    files.write(instance, PATHS, audit=audit)
    return instance


def program(instance: Instance, name: str) -> Program:
    """Return one of the four."""
    return next(known for known in processes.processes(instance) if known.name == name)


def test_they_start_store_first_then_server_then_who_leans_on_it(tmp_path: Path) -> None:
    """And stop in reverse."""
    stages = [(known.name, known.stage) for known in processes.processes(an_instance(tmp_path))]
    assert stages == [
        ("etcd", STORES),
        ("kube-apiserver", API),
        ("kube-controller-manager", NODE),
        ("kube-scheduler", NODE),
    ]


def test_nothing_listens_beyond_loopback(tmp_path: Path) -> None:
    """Every address that is listened on is 127.0.0.1."""
    listens = ("--bind-address", "--listen-client-urls", "--listen-peer-urls", "--listen-metrics-urls")
    told = [
        word
        for known in processes.processes(an_instance(tmp_path))
        for word in known.argv
        if word.startswith(listens)
    ]
    assert len(told) == 6
    assert all("127.0.0.1" in word for word in told)


def test_only_a_plane_for_tests_gives_up_durability(tmp_path: Path) -> None:
    """A user's Models outlive a power cut."""
    real, test = an_instance(tmp_path / "a"), an_instance(tmp_path / "b", PLANE)
    assert "--unsafe-no-fsync" not in program(real, "etcd").argv
    assert "--unsafe-no-fsync" in program(test, "etcd").argv


def test_the_api_server_keeps_an_audit_log_once_it_was_told_to(tmp_path: Path) -> None:
    """Also at later starts without the word."""
    word = "--audit-log-path"
    silent = an_instance(tmp_path)
    assert not any(known.startswith(word) for known in program(silent, "kube-apiserver").argv)
    an_instance(tmp_path, audit=True)
    again = an_instance(tmp_path)
    assert any(known.startswith(word) for known in program(again, "kube-apiserver").argv)


def test_each_part_has_a_name_of_its_own(tmp_path: Path) -> None:
    """Whom RBAC knows, and whom the node lets read logs."""
    instance = an_instance(tmp_path)

    def names(file: str) -> tuple[list[str | bytes], list[str | bytes]]:
        subject = x509.load_pem_x509_certificate((instance.certificates / f"{file}.crt").read_bytes()).subject
        return (
            [part.value for part in subject.get_attributes_for_oid(NameOID.COMMON_NAME)],
            [part.value for part in subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)],
        )

    assert names("node-client") == (["system:node:local"], ["system:nodes"])
    assert names("kubelet-client") == ([API_SERVER], [])
    assert names("kube-scheduler-client") == (["system:kube-scheduler"], [])


def test_what_holds_a_credential_is_for_its_user_alone(tmp_path: Path) -> None:
    """Tokens, kubeconfigs, keys."""
    instance = an_instance(tmp_path, audit=True)
    held = [*processes.folder(instance).iterdir(), *instance.certificates.glob("*.key")]
    assert len(held) > 10
    assert {stat.S_IMODE(path.stat().st_mode) for path in held} == {0o600}


def test_a_folder_that_lost_its_files_says_what_to_do(tmp_path: Path) -> None:
    """Rather than a traceback."""
    instance = an_instance(tmp_path)
    processes.programs_file(instance).unlink()
    with pytest.raises(InstanceError, match="flexinfer up --api real"):
        processes.processes(instance)


def test_a_folder_keeps_its_api(tmp_path: Path) -> None:
    """What one API server keeps another does not know."""
    ensure(tmp_path, api=REAL)
    assert ensure(tmp_path).api == REAL
    with pytest.raises(InstanceError, match="was created for the real API, not for the local one"):
        ensure(tmp_path, api="local")
