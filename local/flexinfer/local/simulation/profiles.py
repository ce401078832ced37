"""Profiles: the cards that can be simulated, with what their vendor's library reports of them. Pure.

Memory is what `nvidia-smi` and `amd-smi` print as total, in MiB; power limits are the vendors' board power, in watts.
"""

from collections.abc import Mapping
from types import MappingProxyType

import msgspec


class Profile(msgspec.Struct, frozen=True):
    """A card: vendor, architecture, total memory in MiB, and its power in watts, idle and at most."""

    name: str
    vendor: str
    architecture: str
    memory_mb: int
    idle_watts: int
    limit_watts: int


PROFILES: Mapping[str, Profile] = MappingProxyType(
    {
        "gtx-980-ti": Profile("NVIDIA GeForce GTX 980 Ti", "nvidia", "sm_52", 6144, 15, 250),
        "gtx-1080-ti": Profile("NVIDIA GeForce GTX 1080 Ti", "nvidia", "sm_61", 11264, 10, 250),
        "rtx-3060": Profile("NVIDIA GeForce RTX 3060", "nvidia", "sm_86", 12288, 13, 170),
        "rtx-3090": Profile("NVIDIA GeForce RTX 3090", "nvidia", "sm_86", 24576, 20, 350),
        "rtx-4090": Profile("NVIDIA GeForce RTX 4090", "nvidia", "sm_89", 24564, 20, 450),
        "h100-80gb": Profile("NVIDIA H100 80GB HBM3", "nvidia", "sm_90", 81559, 70, 700),
        "mi50": Profile("AMD Instinct MI50", "amd", "gfx906", 16368, 20, 300),
        "rx-6900-xt": Profile("AMD Radeon RX 6900 XT", "amd", "gfx1030", 16368, 8, 300),
        "rx-7900-xtx": Profile("AMD Radeon RX 7900 XTX", "amd", "gfx1100", 24560, 15, 355),
    }
)
