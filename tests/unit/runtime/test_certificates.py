"""The instance's own authority."""

from pathlib import Path

from flexinfer.runtime import certificates


def contents(folder: Path) -> dict[str, bytes]:
    """Return what each file holds."""
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_what_was_made_once_is_kept(tmp_path: Path) -> None:
    """A kubeconfig that was handed out stays true after a restart."""
    folder = tmp_path / "certificates"
    certificates.issue(folder, "server")
    first = contents(folder)
    certificates.issue(folder, "server")
    assert contents(folder) == first
    assert sorted(first) == ["ca.crt", "ca.key", "server.crt", "server.key"]


def test_only_the_user_may_read_them(tmp_path: Path) -> None:
    """Mode 0600 in a folder of mode 0700."""
    folder = tmp_path / "certificates"
    certificates.issue(folder, "node")
    assert folder.stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o600}


def test_a_broken_certificate_is_made_anew_by_the_same_authority(tmp_path: Path) -> None:
    """Clients need not be told."""
    certificates.issue(tmp_path, "server")
    authority = (tmp_path / "ca.crt").read_bytes()
    (tmp_path / "server.crt").write_text("cut sho")
    certificates.issue(tmp_path, "server")
    assert (tmp_path / "ca.crt").read_bytes() == authority
    assert b"BEGIN CERTIFICATE" in (tmp_path / "server.crt").read_bytes()


def test_a_new_authority_signs_its_servers_anew(tmp_path: Path) -> None:
    """A lost authority must not leave a certificate that no client trusts."""
    certificates.issue(tmp_path, "server")
    former = (tmp_path / "server.crt").read_bytes()
    (tmp_path / "ca.key").unlink()
    certificates.issue(tmp_path, "server")
    assert (tmp_path / "server.crt").read_bytes() != former
