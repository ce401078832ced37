"""The way to an API server: real kubeconfig files, a real TLS server on loopback, real exec plugins."""

import asyncio
import base64
import contextlib
import json
import ssl
import sys
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from flexinfer.runtime.kubernetes import kubeconfig
from flexinfer.runtime.kubernetes.api import PODS, ApiError, ForbiddenError, UnavailableError
from flexinfer.runtime.kubernetes.client import KubernetesClient, connected
from flexinfer.runtime.kubernetes.credentials import AccessError, TokenFile
from flexinfer.runtime.kubernetes.transport import opened
from tests.unit.runtime.kubernetes.pki import Authority

_POD = json.dumps({"metadata": {"name": "one", "namespace": "default"}}).encode()


class Server:
    """A TLS server that returns one Pod and keeps who asked.

    The Authorization header and the client certificate's name.
    """

    def __init__(self) -> None:
        self.port = 0
        self.requests: list[tuple[str, str]] = []
        self.rejected: set[str] = set()

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer the requests of one connection."""
        peer = writer.get_extra_info("peercert") or {}
        subject = dict(part[0] for part in peer.get("subject", ())).get("commonName", "")
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                lines = [line.partition(": ") for line in head.splitlines()]
                header = next((value for name, _, value in lines if name == "Authorization"), "")
                self.requests.append((header, subject))
                status = b"401 Unauthorized" if header in self.rejected else b"200 OK"
                writer.write(b"HTTP/1.1 %s\r\nContent-Length: %d\r\n\r\n%s" % (status, len(_POD), _POD))
        writer.close()


@contextlib.asynccontextmanager
async def serving(authority: Authority, *hosts: str) -> AsyncIterator[Server]:
    """Serve over TLS on loopback, with a certificate for these hosts.

    Client certificates are asked for, not required.
    """
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(*authority.pair("server", *(hosts or ("127.0.0.1",))))
    tls.load_verify_locations(authority.certificate)
    tls.verify_mode = ssl.CERT_OPTIONAL
    server = Server()
    listener = await asyncio.start_server(server.answer, "127.0.0.1", 0, ssl=tls)
    server.port = listener.sockets[0].getsockname()[1]
    try:
        yield server
    finally:
        listener.close()


def written(path: Path, cluster: dict[str, Any], user: dict[str, Any], **changes: Any) -> str:
    """Write a kubeconfig of one context and return its path."""
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "dev",
        "preferences": {},
        "clusters": [{"name": "lab", "cluster": cluster}],
        "contexts": [{"name": "dev", "context": {"cluster": "lab", "user": "ada", "namespace": "x"}}],
        "users": [{"name": "ada", "user": user}],
    }
    path.write_text(yaml.safe_dump(config | changes))
    return str(path)


def b64(path: Path) -> str:
    """Return a file in base64."""
    return base64.b64encode(path.read_bytes()).decode()


async def ask(config: str, times: int = 1, *, light: bool = False) -> None:
    """GET a Pod with a kubeconfig."""
    async with connected(config, light=light) as api:
        for _ in range(times):
            assert (await api.get(PODS, "default", "one")).metadata.name == "one"


@pytest.fixture(params=[False, True], ids=["pooled", "light"])
def transport(request: pytest.FixtureRequest) -> dict[str, bool]:
    """Return by which transport the server is asked."""
    return {"light": request.param}


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    """Return an authority in the test's folder."""
    return Authority(tmp_path)


async def test_a_token_and_an_authority_in_the_file_reach_the_server(
    tmp_path: Path, authority: Authority, transport: dict[str, bool]
) -> None:
    """The most common form."""
    async with serving(authority) as server:
        cluster = {
            "server": f"https://127.0.0.1:{server.port}/",
            "certificate-authority-data": b64(authority.certificate),
        }
        await ask(written(tmp_path / "config", cluster, {"token": "secret"}), light=transport["light"])
    assert server.requests == [("Bearer secret", "")]


async def test_a_client_certificate_is_presented(
    tmp_path: Path, authority: Authority, transport: dict[str, bool]
) -> None:
    """Inline or in files, whose paths are relative to the kubeconfig."""
    certificate, key = authority.pair("ada")
    inline = {"client-certificate-data": b64(certificate), "client-key-data": b64(key)}
    files = {"client-certificate": certificate.name, "client-key": key.name}
    async with serving(authority) as server:
        cluster = {"server": f"https://127.0.0.1:{server.port}", "certificate-authority": "ca.crt"}
        for user in (inline, files):
            await ask(written(tmp_path / "config", cluster, user), light=transport["light"])
    assert server.requests == [("", "ada"), ("", "ada")]


async def test_a_server_of_another_authority_is_not_trusted(
    tmp_path: Path, authority: Authority, transport: dict[str, bool]
) -> None:
    """Unless verification is switched off."""
    other = tmp_path / "other"
    other.mkdir()
    Authority(other)
    async with serving(authority) as server:
        address = {"server": f"https://127.0.0.1:{server.port}"}
        with pytest.raises(UnavailableError, match="CERTIFICATE_VERIFY_FAILED"):
            await ask(
                written(tmp_path / "a", address | {"certificate-authority": "other/ca.crt"}, {}),
                light=transport["light"],
            )
        await ask(
            written(tmp_path / "b", address | {"insecure-skip-tls-verify": True}, {}),
            light=transport["light"],
        )


async def test_tls_server_name_is_the_name_that_the_certificate_must_have(
    tmp_path: Path, authority: Authority, transport: dict[str, bool]
) -> None:
    """For an address by which the certificate does not know the server."""
    async with serving(authority, "api.internal") as server:
        cluster = {"server": f"https://127.0.0.1:{server.port}", "certificate-authority": "ca.crt"}
        with pytest.raises(UnavailableError):
            await ask(written(tmp_path / "a", cluster, {}), light=transport["light"])
        await ask(
            written(tmp_path / "b", cluster | {"tls-server-name": "api.internal"}, {}),
            light=transport["light"],
        )


async def test_a_user_and_a_password_are_sent_as_basic_authentication(
    tmp_path: Path, authority: Authority, transport: dict[str, bool]
) -> None:
    """As some proxies in front of an API server want it."""
    async with serving(authority) as server:
        cluster = {"server": f"https://127.0.0.1:{server.port}", "certificate-authority": "ca.crt"}
        await ask(
            written(tmp_path / "config", cluster, {"username": "a", "password": "b"}),
            light=transport["light"],
        )
    assert server.requests == [("Basic YTpi", "")]


async def test_a_proxy_of_the_kubeconfig_is_used(tmp_path: Path, transport: dict[str, bool]) -> None:
    """The name of the server is resolved by the proxy."""
    lines: list[str] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        lines.append((await reader.readuntil(b"\r\n\r\n")).decode().partition("\r\n")[0])
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(_POD), _POD))
        writer.close()

    proxy = await asyncio.start_server(answer, "127.0.0.1", 0)
    port = proxy.sockets[0].getsockname()[1]
    cluster = {"server": "http://kubernetes.invalid", "proxy-url": f"http://127.0.0.1:{port}"}
    await ask(written(tmp_path / "config", cluster, {}), light=transport["light"])
    proxy.close()
    assert lines == ["GET http://kubernetes.invalid/api/v1/namespaces/default/pods/one HTTP/1.1"]


async def test_a_rotated_token_is_read_within_a_minute(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, transport: dict[str, bool]
) -> None:
    """The kubelet replaces the file; while it cannot be read, the last token is used."""
    now = 100.0
    monkeypatch.setattr("flexinfer.runtime.kubernetes.credentials.monotonic", lambda: now)
    path = tmp_path / "token"
    path.write_text("one\n")
    token = TokenFile(path)
    assert await token.headers() == {"Authorization": "Bearer one"}
    path.write_text("two\n")
    assert await token.headers() == {"Authorization": "Bearer one"}
    now += 61
    assert await token.headers() == {"Authorization": "Bearer two"}
    path.unlink()
    now += 61
    assert await token.headers() == {"Authorization": "Bearer two"}


async def test_a_token_that_is_rejected_is_read_again_at_once(
    tmp_path: Path, authority: Authority, transport: dict[str, bool]
) -> None:
    """401 is the sign of a rotation that was missed."""
    path = tmp_path / "token"
    path.write_text("old")
    async with serving(authority) as server:
        server.rejected.add("Bearer old")
        cluster = {"server": f"https://127.0.0.1:{server.port}", "certificate-authority": "ca.crt"}
        async with connected(
            written(tmp_path / "config", cluster, {"tokenFile": "token"}), light=transport["light"]
        ) as api:
            with pytest.raises(ForbiddenError):
                await api.get(PODS, "default", "one")
            path.write_text("new")
            await api.get(PODS, "default", "one")
    assert [header for header, _ in server.requests] == ["Bearer old", "Bearer new"]


async def test_a_pod_reaches_its_own_cluster(
    tmp_path: Path, authority: Authority, transport: dict[str, bool]
) -> None:
    """By its service account; an IPv6 host is in brackets."""
    (tmp_path / "token").write_text("of the pod")
    async with serving(authority) as server:
        environment = {"KUBERNETES_SERVICE_HOST": "127.0.0.1", "KUBERNETES_SERVICE_PORT": str(server.port)}
        async with opened(
            kubeconfig.from_service_account(environment, tmp_path), light=transport["light"]
        ) as session:
            await KubernetesClient(session).get(PODS, "default", "one")
    assert server.requests == [("Bearer of the pod", "")]
    environment = {"KUBERNETES_SERVICE_HOST": "fd00::1", "KUBERNETES_SERVICE_PORT": "443"}
    access = kubeconfig.from_service_account(environment, tmp_path)
    assert access.server == "https://[fd00::1]:443"
    assert access.direct, "the proxy of a Pod's environment is for the world outside"


def test_outside_a_pod_the_error_names_the_setting() -> None:
    """What a user must set instead."""
    with pytest.raises(AccessError, match="not a Pod; set FLEXINFER_KUBECONFIG"):
        kubeconfig.from_service_account({})


def a_plugin(folder: Path, *lines: str) -> dict[str, Any]:
    """Write an exec plugin in Python; returns its entry."""
    path = folder / "plugin"
    path.write_text("\n".join([f"#!{sys.executable}", "import json, os, pathlib, sys", *lines]))
    path.chmod(0o755)
    return {"command": "./plugin", "apiVersion": "client.authentication.k8s.io/v1", "args": ["get", "token"]}


_COUNTING = (
    "count = pathlib.Path(__file__).with_name('count')",
    "number = int(count.read_text()) + 1 if count.exists() else 1",
    "count.write_text(str(number))",
)
_PRINT = "print(json.dumps({'apiVersion': 'client.authentication.k8s.io/v1', 'kind': 'ExecCredential', 'status': %s}))"


async def test_an_exec_plugin_is_run_once_while_its_token_is_valid_and_again_after_it_is_rejected(
    tmp_path: Path, authority: Authority
) -> None:
    """It gets the arguments and variables of the kubeconfig, and no terminal."""
    entry = a_plugin(
        tmp_path,
        *_COUNTING,
        "info = json.loads(os.environ['KUBERNETES_EXEC_INFO'])",
        "assert info['spec'] == {'interactive': False}, info",
        _PRINT % "{'token': '-'.join([*sys.argv[1:], os.environ['WHO'], str(number)])}",
    ) | {"env": [{"name": "WHO", "value": "ada"}]}
    async with serving(authority) as server:
        cluster = {"server": f"https://127.0.0.1:{server.port}", "certificate-authority": "ca.crt"}
        async with connected(written(tmp_path / "config", cluster, {"exec": entry})) as api:
            await api.get(PODS, "default", "one")
            server.rejected.add("Bearer get-token-ada-1")
            with pytest.raises(ForbiddenError):
                await api.get(PODS, "default", "one")
            await api.get(PODS, "default", "one")
    headers = [header for header, _ in server.requests]
    assert headers == ["Bearer get-token-ada-1", "Bearer get-token-ada-1", "Bearer get-token-ada-2"]


@pytest.mark.parametrize(("seconds", "runs"), [(5, "2"), (3600, "1")])
async def test_an_exec_plugin_is_run_again_shortly_before_its_credential_expires(
    tmp_path: Path, authority: Authority, seconds: int, runs: str
) -> None:
    """A request that is sent with it must still arrive in time."""
    expiry = (datetime.now(UTC) + timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%SZ")
    entry = a_plugin(tmp_path, *_COUNTING, _PRINT % f"{{'token': 'x', 'expirationTimestamp': '{expiry}'}}")
    async with serving(authority) as server:
        cluster = {"server": f"https://127.0.0.1:{server.port}", "certificate-authority": "ca.crt"}
        await ask(written(tmp_path / "config", cluster, {"exec": entry}), times=2)
    assert (tmp_path / "count").read_text() == runs


async def test_an_exec_plugin_can_return_a_client_certificate(tmp_path: Path, authority: Authority) -> None:
    """With its key, instead of a token."""
    certificate, key = authority.pair("by-plugin")
    status = {"clientCertificateData": certificate.read_text(), "clientKeyData": key.read_text()}
    entry = a_plugin(tmp_path, _PRINT % repr(status))
    async with serving(authority) as server:
        cluster = {"server": f"https://127.0.0.1:{server.port}", "certificate-authority": "ca.crt"}
        await ask(written(tmp_path / "config", cluster, {"exec": entry}))
    assert server.requests == [("", "by-plugin")]


async def test_an_exec_plugin_that_asks_for_it_gets_a_description_of_the_cluster(
    tmp_path: Path, authority: Authority
) -> None:
    """In the form of ExecCredential.spec.cluster."""
    entry = a_plugin(
        tmp_path,
        "spec = json.loads(os.environ['KUBERNETES_EXEC_INFO'])['spec']['cluster']",
        "pathlib.Path(__file__).with_name('spec').write_text(json.dumps(spec))",
        _PRINT % "{'token': 'x'}",
    ) | {"provideClusterInfo": True}
    extension = {"name": "client.authentication.k8s.io/exec", "extension": {"audience": "lab"}}
    async with serving(authority) as server:
        address = f"https://127.0.0.1:{server.port}"
        cluster = {"server": address, "certificate-authority": "ca.crt", "extensions": [extension]}
        await ask(written(tmp_path / "config", cluster, {"exec": entry}))
    assert json.loads((tmp_path / "spec").read_text()) == {
        "server": address,
        "certificate-authority-data": b64(authority.certificate),
        "config": {"audience": "lab"},
    }


@pytest.mark.parametrize(
    ("lines", "cause"),
    [
        (("sys.exit('log in first')",), "exit code 1: log in first; brew install it"),
        (("print('hello')",), "prints no ExecCredential"),
        ((_PRINT % "{}",), "prints neither status.token nor status.clientCertificateData"),
        (
            ("print(json.dumps({'apiVersion': 'client.authentication.k8s.io/v1beta1', 'status': {}}))",),
            "prints client.authentication.k8s.io/v1beta1, configured is client.authentication.k8s.io/v1",
        ),
    ],
    ids=["exits", "prints text", "prints nothing", "prints another version"],
)
async def test_an_exec_plugin_that_fails_is_named_with_what_it_printed(
    tmp_path: Path, lines: tuple[str, ...], cause: str
) -> None:
    """File, field, cause, and the kubeconfig's own hint."""
    entry = a_plugin(tmp_path, *lines) | {"installHint": "brew install it"}
    config = written(tmp_path / "config", {"server": "https://127.0.0.1:1"}, {"exec": entry})
    with pytest.raises(UnavailableError) as failure:
        await ask(config)
    assert f"{config}: users[ada].user.exec: {tmp_path / 'plugin'}: {cause}" in str(failure.value)


async def test_an_exec_plugin_that_is_not_installed_is_named(tmp_path: Path) -> None:
    """With the kubeconfig's own hint."""
    entry = {"command": "no-such-plugin", "apiVersion": "client.authentication.k8s.io/v1beta1"}
    config = written(tmp_path / "config", {"server": "https://127.0.0.1:1"}, {"exec": entry})
    with pytest.raises(UnavailableError, match="no-such-plugin: cannot run: No such file"):
        await ask(config)


async def test_of_several_files_the_first_that_has_an_entry_wins_as_a_whole(tmp_path: Path) -> None:
    """Files that do not exist are ignored, as by kubectl."""
    first = written(tmp_path / "a", {"server": "http://a"}, {"token": "a"}, contexts=None, clusters=None)
    second = written(tmp_path / "b", {"server": "http://b"}, {"token": "b"}, **{"current-context": "other"})
    access = kubeconfig.access(f"{tmp_path / 'none'}:{first}:{second}")
    assert access.server == "http://b"
    assert await access.credentials.headers() == {"Authorization": "Bearer a"}


def test_json_is_a_kubeconfig_too(tmp_path: Path) -> None:
    """JSON is YAML."""
    path = tmp_path / "config"
    config = yaml.safe_load(Path(written(path, {"server": "http://a"}, {})).read_text())
    path.write_text(json.dumps(config))
    assert kubeconfig.access(str(path)).server == "http://a"


_SERVER = {"server": "https://a"}


@pytest.mark.parametrize(
    ("cluster", "user", "changes", "sentence"),
    [
        ({}, {}, {}, "clusters[lab].cluster.server: '' is no http:// or https:// address; set the API"),
        ({"server": "a:6443"}, {}, {}, "clusters[lab].cluster.server: 'a:6443' is no http"),
        ({"server": 5}, {}, {}, "clusters[0].cluster.server: Expected `str`, got `int`; kubectl config view"),
        (_SERVER, {}, {"current-context": ""}, "current-context is not set; kubectl config use-context NAME"),
        (_SERVER, {}, {"current-context": "x"}, "contexts has no 'x' (it has dev); correct the name"),
        (_SERVER, {}, {"users": []}, "users has no 'ada' (it has none); correct the name"),
        (
            _SERVER,
            {"auth-provider": {"name": "oidc"}},
            {},
            "users[ada].user.auth-provider: removed from kubectl",
        ),
        (_SERVER, {"as": "root"}, {}, "users[ada].user.as: impersonation is not supported"),
        (_SERVER, {"client-certificate-data": "eA=="}, {}, "users[ada].user.client-key: missing"),
        (
            _SERVER,
            {"client-certificate-data": "eA==", "client-key-data": "eA=="},
            {},
            "users[ada].user: client certificate and key do not load",
        ),
        (_SERVER, {"client-key": "none.key"}, {}, "users[ada].user.client-key: "),
        (_SERVER | {"certificate-authority-data": "***"}, {}, {}, "certificate-authority-data: not base64"),
        (
            _SERVER | {"certificate-authority-data": "eA=="},
            {},
            {},
            "certificate-authority: no PEM certificate",
        ),
        (_SERVER | {"proxy-url": "socks5://p"}, {}, {}, "proxy-url: 'socks5://p' is not supported"),
        (
            _SERVER,
            {"exec": {"command": "x", "apiVersion": "client.authentication.k8s.io/v1alpha1"}},
            {},
            "users[ada].user.exec.apiVersion: 'client.authentication.k8s.io/v1alpha1' is none of",
        ),
        (
            _SERVER,
            {
                "exec": {
                    "command": "x",
                    "apiVersion": "client.authentication.k8s.io/v1",
                    "interactiveMode": "Always",
                }
            },
            {},
            "users[ada].user.exec.interactiveMode: Always needs a terminal",
        ),
    ],
    ids=lambda value: value[:40] if isinstance(value, str) else "",
)
def test_an_error_names_the_file_the_field_and_the_remedy(
    tmp_path: Path, cluster: Any, user: Any, changes: Any, sentence: str
) -> None:
    """A user corrects it without reading this code."""
    config = written(tmp_path / "config", cluster, user, **changes)
    with pytest.raises(AccessError) as failure:
        kubeconfig.access(config)
    assert str(failure.value).startswith(f"{config}: ")
    assert sentence in str(failure.value)


def test_verification_off_beside_an_authority_is_a_contradiction(
    tmp_path: Path, authority: Authority
) -> None:
    """As kubectl says."""
    cluster = _SERVER | {"insecure-skip-tls-verify": True, "certificate-authority": "ca.crt"}
    with pytest.raises(AccessError, match="remove one of the two"):
        kubeconfig.access(written(tmp_path / "config", cluster, {}))


def test_an_encrypted_key_is_refused_without_a_question_on_the_terminal(
    tmp_path: Path, authority: Authority
) -> None:
    """A Pod has no terminal."""
    certificate, key = authority.pair("ada", passphrase=b"secret")
    user = {"client-certificate": certificate.name, "client-key": key.name}
    with pytest.raises(AccessError, match="an encrypted key is not supported"):
        kubeconfig.access(written(tmp_path / "config", _SERVER, user))


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("a: [", "not YAML"),
        ("- a\n", "file: Expected `object`, got `array`"),
        ("", "current-context is not set"),
    ],
    ids=["no YAML", "a list", "empty"],
)
def test_a_file_that_is_no_kubeconfig_is_named(tmp_path: Path, text: str, sentence: str) -> None:
    """With what is wrong in it."""
    path = tmp_path / "config"
    path.write_text(text)
    with pytest.raises(AccessError) as failure:
        kubeconfig.access(str(path))
    assert str(failure.value).startswith(f"{path}: {sentence}")


async def test_without_a_way_a_client_is_not_opened(tmp_path: Path) -> None:
    """The error is one of the API's: callers catch no other."""
    with pytest.raises(
        ApiError, match=r"no access to the API server: .*: no such file; write the kubeconfig"
    ):
        await ask(str(tmp_path / "none"))
