"""Variables: `spec.env`, which is added to an engine's environment, and what FlexInfer itself sets there. Pure."""

import re
from collections.abc import Iterable, Iterator, Mapping
from fnmatch import fnmatchcase

from flexinfer.api.podspec import EnvVar
from flexinfer.backends.options import Key, line_fault

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_DEVICES = "the placement chooses the devices"
_OURS = "FlexInfer sets it"
_TAKES_OVER = "it would take the engine from FlexInfer, as its address, its API key or a plugin does"
EVERYWHERE: Mapping[str, str] = {
    "POD_IP": _OURS,
    "CUDA_VISIBLE_DEVICES": _DEVICES,
    "NVIDIA_VISIBLE_DEVICES": _DEVICES,
    "AMD_VISIBLE_DEVICES": _DEVICES,
    "HIP_VISIBLE_DEVICES": _DEVICES,
    "ROCR_VISIBLE_DEVICES": _DEVICES,
    "GPU_DEVICE_ORDINAL": _DEVICES,
}
"""Variables that no spec may set, whatever its backend -> why."""
_AMD_TUNING: tuple[tuple[str, Mapping[str, str]], ...] = (
    ("gfx110", {"HSA_OVERRIDE_GFX_VERSION": "11.0.0", "HIP_FORCE_DEV_KERNARG": "1"}),
    ("gfx906", {"HSA_ENABLE_SDMA": "0", "HSA_USE_SVM": "0"}),
)
"""Architecture -> what the ROCm runtime needs there: kernels are built for gfx1100 alone of its generation, and copies by SDMA hang on gfx906."""
_TORCH_TUNING: tuple[tuple[str, Mapping[str, str]], ...] = (
    ("gfx110", {"TORCH_ROCM_AOTRITON_ENABLE_EXPERIMENTAL": "1", "TORCH_BLAS_PREFER_HIPBLASLT": "1"}),
)


def amd(vendor: str, architecture: str) -> Mapping[str, str]:
    """Return what a program for ROCm needs on a GPU; nothing on those of another vendor."""
    return _of(_AMD_TUNING, architecture) if vendor == "amd" else {}


def amd_torch(vendor: str, architecture: str) -> Mapping[str, str]:
    """Return what PyTorch for ROCm needs on a GPU, so that it compiles for that GPU alone."""
    if vendor != "amd" or not architecture:
        return {}
    rocm = {**amd(vendor, architecture), **_of(_TORCH_TUNING, architecture)}
    return {**rocm, "PYTORCH_ROCM_ARCH": architecture}


def owned(keys: Mapping[str, Key], own: Iterable[str], denied_variables: Iterable[str]) -> Mapping[str, str]:
    """Return which variables a spec may not set, as names or patterns, and why; a key that stands for one is named."""
    by_key = {
        name: f"spec.config.{key} sets it; use that"
        for key, definition in keys.items()
        for name in definition.sets
        if _NAME.fullmatch(name)
    }
    ours = {**dict.fromkeys(own, _OURS), **dict.fromkeys(denied_variables, _TAKES_OVER)}
    return {**ours, **EVERYWHERE, **by_key}


def faults(env: Iterable[EnvVar], reserved_names: Mapping[str, str]) -> Iterator[str]:
    """Yield a sentence on each variable of a spec that cannot be set."""
    names: set[str] = set()
    for index, variable in enumerate(env):
        path = f"spec.env[{index}]"
        if variable.name in names:
            yield f"{path} sets {variable.name} a second time; remove one of them"
        names.add(variable.name)
        if not _NAME.fullmatch(variable.name):
            yield f"{path}.name is {variable.name[:40]!r}; use letters, digits and `_`, not beginning with a digit"
        elif why := next(
            (why for name, why in reserved_names.items() if fnmatchcase(variable.name, name)), ""
        ):
            yield f"{path} may not set {variable.name}: {why}; remove it"
        elif fault := _value_fault(variable):
            yield f"{path} ({variable.name}) {fault}"


def _value_fault(variable: EnvVar) -> str:
    source = variable.value_from
    if source is None:
        return line_fault(variable.value) if variable.value else ""
    references = [ref for ref in (source.secret_key_ref, source.config_map_key_ref) if ref is not None]
    if variable.value or len(references) != 1:
        return (
            "must have one of value, valueFrom.secretKeyRef and valueFrom.configMapKeyRef; remove the others"
        )
    return "" if references[0].name and references[0].key else "must name an object and a key in valueFrom"


def _of(table: Iterable[tuple[str, Mapping[str, str]]], architecture: str) -> dict[str, str]:
    blocks = (variables for prefix, variables in table if architecture.startswith(prefix))
    return {name: value for variables in blocks for name, value in variables.items()}
