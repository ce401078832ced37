"""GPU generations: what the architectures are called that telemetry reports. Pure.

What an engine cannot run on, or may fail on, is in that engine's file (`unsupported_architectures`,
`experimental_architectures`); a generation that neither names is one of which nothing is known: it is neither refused nor warned of.
"""

import msgspec

from flexinfer.backends.base import AMD, NVIDIA, ArchitectureRule, Backend

CUDA = "https://developer.nvidia.com/cuda-gpus"
ROCM = "https://rocm.docs.amd.com/en/latest/reference/gpu-arch-specs.html"


class Generation(msgspec.Struct, frozen=True, kw_only=True):
    """GPUs of `vendor` whose architecture begins with `prefix`; `source` is where that is documented."""

    vendor: str
    prefix: str
    name: str
    source: str


GENERATIONS = (
    Generation(vendor=NVIDIA, prefix="sm_5", name="Maxwell (GTX 750 to 980 Ti, M40)", source=CUDA),
    Generation(vendor=NVIDIA, prefix="sm_6", name="Pascal (GTX 1050 to 1080 Ti, P40, P100)", source=CUDA),
    Generation(vendor=NVIDIA, prefix="sm_70", name="Volta (V100, Titan V)", source=CUDA),
    Generation(vendor=NVIDIA, prefix="sm_75", name="Turing (GTX 1650, RTX 20, T4)", source=CUDA),
    Generation(
        vendor=NVIDIA, prefix="sm_8", name="Ampere and Ada (RTX 30 and 40, A100, L4, L40)", source=CUDA
    ),
    Generation(vendor=NVIDIA, prefix="sm_9", name="Hopper (H100, H200)", source=CUDA),
    Generation(vendor=NVIDIA, prefix="sm_1", name="Blackwell (RTX 50, B200)", source=CUDA),
    Generation(vendor=AMD, prefix="gfx906", name="Vega 20 (MI50, MI60, Radeon VII)", source=ROCM),
    Generation(vendor=AMD, prefix="gfx90a", name="CDNA2 (MI210, MI250)", source=ROCM),
    Generation(vendor=AMD, prefix="gfx942", name="CDNA3 (MI300, MI325)", source=ROCM),
    Generation(vendor=AMD, prefix="gfx1030", name="RDNA2 (RX 6800 to 6950, W6800)", source=ROCM),
    Generation(vendor=AMD, prefix="gfx1100", name="RDNA3 (RX 7900, W7900)", source=ROCM),
)


def rules(backend: Backend, generation: Generation, *, experimental: bool) -> tuple[ArchitectureRule, ...]:
    """Return what a backend says of a generation: why it cannot run there, or with `experimental` why it may fail."""
    every = backend.experimental_architectures if experimental else backend.unsupported_architectures
    return tuple(rule for rule in every if rule.covers(generation.vendor, generation.prefix))
