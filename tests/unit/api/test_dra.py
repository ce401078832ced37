"""DRA drivers: which attributes name a card, and the selector that picks one."""

import pytest

from flexinfer.api.dra import card_of_part, identity, selector

BUS = "resource.kubernetes.io/pciBusID"
IDENTITIES = [
    pytest.param("gpu.nvidia.com", {"type": "gpu", "uuid": "GPU-1"}, ("GPU-1", ""), id="nvidia"),
    pytest.param("gpu.nvidia.com", {"type": "mig", "uuid": "MIG-1"}, ("", ""), id="a part of a card"),
    pytest.param("gpu.nvidia.com", {"uuid": "GPU-1"}, ("", ""), id="handed to a virtual machine"),
    pytest.param(
        "gpu.amd.com", {"type": "amdgpu", BUS: "0000:03:00.0"}, ("", "0000:03:00.0"), id="amd has an address alone"
    ),
    pytest.param("gpu.amd.com", {"type": "amdgpu-partition", BUS: "0000:03:00.0"}, ("", ""), id="amd's partition"),
    pytest.param("gpu.example", {"uuid": "GPU-1", BUS: "0000:01:00.0"}, ("GPU-1", "0000:01:00.0"), id="any other"),
    pytest.param("gpu.example", {"gpu.example/uuid": "GPU-1"}, ("GPU-1", ""), id="with the domain in the name"),
    pytest.param("nic.example", {"mac": "00:00"}, ("", ""), id="no card"),
]  # fmt: skip


@pytest.mark.parametrize(("driver", "attributes", "names"), IDENTITIES)
def test_a_card_is_named_by_what_its_driver_says(
    driver: str, attributes: dict[str, str], names: tuple[str, str]
) -> None:
    """What is not a whole card has no name, so it is never asked for (G2)."""
    assert identity(driver, attributes) == names


@pytest.mark.parametrize(
    ("driver", "attributes", "names"),
    [
        pytest.param(
            "gpu.nvidia.com", {"type": "mig", "uuid": "MIG-1", "parentUUID": "GPU-1"}, ("GPU-1", ""), id="mig"
        ),
        pytest.param("gpu.nvidia.com", {"type": "mig", "uuid": "MIG-1"}, ("", ""), id="mig of no card"),
        pytest.param("gpu.nvidia.com", {"type": "gpu", "uuid": "GPU-1"}, ("", ""), id="a whole card"),
        pytest.param(
            "gpu.nvidia.com", {"type": "vfio", "uuid": "GPU-1"}, ("", ""), id="handed to a virtual machine"
        ),
        pytest.param(
            "gpu.amd.com", {"type": "amdgpu-partition", BUS: "0000:03:00.0"}, ("", "0000:03:00.0"), id="amd"
        ),
        pytest.param("gpu.example", {"type": "mig", "parentUUID": "GPU-1"}, ("", ""), id="any other driver"),
    ],
)
def test_a_part_names_its_card(driver: str, attributes: dict[str, str], names: tuple[str, str]) -> None:
    """NVIDIA's by the card's uuid, AMD's by its address."""
    assert card_of_part(driver, attributes) == names


def test_a_selector_picks_one_card_and_fails_on_none() -> None:
    """A missing attribute is empty: an expression that fails makes the Pod unschedulable everywhere."""
    assert selector("gpu.nvidia.com", uuid="GPU-1") == (
        'device.attributes["gpu.nvidia.com"].?type.orValue("") == "gpu" && '
        'device.attributes["gpu.nvidia.com"].?uuid.orValue("") == "GPU-1"'
    )
    assert selector("gpu.amd.com", uuid="GPU-1", pci="0000:03:00.0") == (
        'device.attributes["gpu.amd.com"].?type.orValue("") == "amdgpu" && '
        'device.attributes["resource.kubernetes.io"].?pciBusID.orValue("") == "0000:03:00.0"'
    )
    assert selector("gpu.example", uuid="GPU-1") == (
        'device.attributes["gpu.example"].?uuid.orValue("") == "GPU-1"'
    )


def test_a_quote_in_a_name_ends_no_text() -> None:
    """A name comes from a driver, and is not an expression."""
    assert selector("gpu.example", uuid='" || true || "').endswith(r'== "\" || true || \""')
