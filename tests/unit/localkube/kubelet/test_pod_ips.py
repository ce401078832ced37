"""PodIPAllocator: every Pod on this machine has its own."""

import ipaddress
import socket
from contextlib import closing
from pathlib import Path

from localkube.kubelet.pod_ips import RANGE, PodIPAllocator, listening

TABLE = """  sl  local_address rem_address   st tx_queue
   0: 0100007F:1F90 00000000:0000 0A 00000000
   1: 0200407F:1F90 00000000:0000 01 00000000
"""


def test_two_instances_that_begin_at_one_place_share_no_address() -> None:
    """The socket named after an address keeps the second one off."""
    with closing(PodIPAllocator("same")) as first, closing(PodIPAllocator("same")) as second:
        taken = [node.allocate() for node in (first, second, first, second)]
    assert len(set(taken)) == 4
    assert all(ipaddress.ip_address(address) in RANGE for address in taken)


def test_an_address_that_a_foreign_process_listens_on_is_stepped_over() -> None:
    """Even if no Pod holds its name."""
    with closing(PodIPAllocator("foreign")) as scout:
        first = scout.allocate()
    with socket.create_server((first, 0)), closing(PodIPAllocator("foreign")) as other:
        assert other.allocate() != first


def test_a_kept_address_is_not_given_again() -> None:
    """A Pod of a former node process has it."""
    with closing(PodIPAllocator("kept")) as scout:
        first = scout.allocate()
    with closing(PodIPAllocator("kept")) as successor:
        successor.reserve(first)
        assert successor.allocate() != first


def test_only_listeners_count_in_the_kernels_table(tmp_path: Path) -> None:
    """A connection from an address leaves it free."""
    (tmp_path / "tcp").write_text(TABLE)
    assert listening(tmp_path / "tcp") == {"127.0.0.1"}
