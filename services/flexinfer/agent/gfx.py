"""AMD's names of architectures, such as gfx1100, and which of them are part of a CPU. Pure.

ROCm names an architecture after the `gfx_target_version` of the kernel's KFD: 110000 is gfx1100, 90010 is gfx90a. Where KFD may not be
read, the version of the graphics core (GC) on the chip says the same; the table is that of kgd2kfd_probe() in the kernel's
drivers/gpu/drm/amd/amdkfd/kfd_device.c. Chips before 2019 have no such version: of those, the ones that ROCm supports are known by
their PCI device.
"""

from collections.abc import Mapping
from types import MappingProxyType

_BY_CORE: Mapping[tuple[int, int, int], str] = MappingProxyType(
    {
        (9, 4, 2): "gfx90a",
        (9, 4, 3): "gfx942",
        (9, 4, 4): "gfx942",
        (9, 5, 0): "gfx950",
        (10, 1, 10): "gfx1010",
        (10, 1, 2): "gfx1011",
        (10, 1, 1): "gfx1012",
        (10, 1, 3): "gfx1013",
        (10, 1, 4): "gfx1013",
        (10, 3, 0): "gfx1030",
        (10, 3, 2): "gfx1031",
        (10, 3, 4): "gfx1032",
        (10, 3, 1): "gfx1033",
        (10, 3, 5): "gfx1034",
        (10, 3, 3): "gfx1035",
        (10, 3, 6): "gfx1036",
        (10, 3, 7): "gfx1036",
        (11, 0, 0): "gfx1100",
        (11, 0, 3): "gfx1101",
        (11, 0, 2): "gfx1102",
        (11, 0, 1): "gfx1103",
        (11, 0, 4): "gfx1103",
        (11, 5, 0): "gfx1150",
        (11, 5, 1): "gfx1151",
        (11, 5, 2): "gfx1152",
        (12, 0, 0): "gfx1200",
        (12, 0, 1): "gfx1201",
    }
)
_BY_DEVICE: Mapping[str, str] = MappingProxyType(
    dict.fromkeys(("0x66a0", "0x66a1", "0x66a2", "0x66a3", "0x66a4", "0x66a7", "0x66af"), "gfx906")
    | dict.fromkeys(("0x7388", "0x738c", "0x738e", "0x7390"), "gfx908")
)
_INTEGRATED = frozenset(
    {"gfx801", "gfx902", "gfx90c", "gfx1013", "gfx1033", "gfx1035", "gfx1036", "gfx1103"}
    | {"gfx1150", "gfx1151", "gfx1152", "gfx1153"}
)
INTEGRATED_BELOW_MB = 2048
"""The memory that a mainboard sets aside for a GPU that is part of the CPU is usually 512 MiB; no card for models has less than this."""


def from_target_version(version: int) -> str:
    """Return the name of a `gfx_target_version`; empty for 0, which KFD gives to what is no GPU."""
    if version <= 0:
        return ""
    major, minor, stepping = version // 10000, version // 100 % 100, version % 100
    return f"gfx{major}{minor:x}{stepping:x}"


def from_chip(core: tuple[int, int, int] | None, device: str) -> str:
    """Return the name by the version of the graphics core, else by the PCI device; empty if neither is known."""
    return _BY_CORE.get(core, "") if core is not None else _BY_DEVICE.get(device, "")


def is_integrated(architecture: str, total_mb: int, cpu_cores: int) -> bool:
    """Return whether a GPU is part of a CPU.

    So say its architecture, CPU cores on the same KFD node, or how little memory it has.
    """
    return architecture in _INTEGRATED or cpu_cores > 0 or 0 < total_mb < INTEGRATED_BELOW_MB
