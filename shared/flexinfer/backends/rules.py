"""Rules on GPU generations: on which GPUs an engine cannot run, or may fail, and where that is documented. Pure."""

from collections.abc import Callable

import msgspec

from flexinfer.api.model import ModelSpec

CPU, NVIDIA, AMD = "cpu", "nvidia", "amd"
GPUS = (NVIDIA, AMD)


class ArchitectureRule(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of an engine on some GPUs: those of `vendor` whose architecture begins with `prefix`, such as sm_5 (NVIDIA Maxwell).

    `reason` is the rest of the sentence "<engine> cannot run there: ...", or of "... is experimental there: ..."; `source` is where that
    is documented. `applies` tells for which specs, from the Model's name and spec; `when` says that in words, empty for all.
    """

    vendor: str
    prefix: str
    reason: str
    source: str
    applies: Callable[[str, ModelSpec], bool] = lambda _name, _spec: True
    when: str = ""

    def covers(self, vendor: str, architecture: str) -> bool:
        """Return whether a device of that vendor and architecture is one of these GPUs."""
        return vendor == self.vendor and architecture.startswith(self.prefix)


_ROCM_SUPPORT = (
    "https://rocm.docs.amd.com/projects/install-on-linux/en/latest/reference/system-requirements.html"
)
_PYTORCH_CUDA = "https://github.com/pytorch/pytorch/blob/main/RELEASE.md#pytorch-cuda-support-matrix"
WITHOUT_ROCM = (
    ArchitectureRule(
        vendor=AMD,
        prefix="gfx906",
        reason="AMD's list of supported GPUs has not named gfx906 since ROCm 6",
        source=_ROCM_SUPPORT,
    ),
)
"""AMD GPUs that present builds of PyTorch and of other ROCm programs may hold no code for."""
OLD_CUDA = tuple(
    ArchitectureRule(
        vendor=NVIDIA,
        prefix=prefix,
        reason=f"PyTorch for CUDA 12.8 and newer holds no code for {generation}; an image with CUDA 12.6 does",
        source=_PYTORCH_CUDA,
    )
    for prefix, generation in (("sm_6", "Pascal"), ("sm_70", "Volta"))
)
"""NVIDIA GPUs that present builds of PyTorch hold no code for, but older ones do."""
