"""Backend: what FlexInfer must know of an engine to check a spec for it, place it, start it and probe it. Pure."""

import difflib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from flexinfer.api.model import ModelSpec
from flexinfer.api.reasons import Reason
from flexinfer.backends import options
from flexinfer.backends.memory import DemandOf

CPU, NVIDIA, AMD = "cpu", "nvidia", "amd"
GPUS = (NVIDIA, AMD)
HOME_AND_USER: Mapping[str, str] = {"HOME": "/tmp", "USER": "flexinfer"}  # noqa: S108 -- inside its container
"""For engines that look up their user and write to its home directory: the image has no entry for the user that they run as."""


TEXT_PATHS = ("/v1/models", "/v1/chat/completions", "/v1/completions", "/v1/embeddings")
"""Paths of OpenAI's API that every engine for text serves."""


class Problem(msgspec.Struct, frozen=True):
    """Why a spec cannot be served: a reason for machines, a sentence for people."""

    reason: str
    message: str


class Serving(msgspec.Struct, frozen=True, kw_only=True):
    """One start of an engine: the Model's name and spec, where its weights are, and the devices that it runs on.

    `path` is what the engine loads: a path inside its container.
    """

    name: str
    spec: ModelSpec
    path: str
    vendor: str = CPU
    architecture: str = ""
    devices: int = 0
    memory_share: str = ""
    """The part of each device's memory that the engine may take, as a decimal; empty: it gets none."""

    @property
    def config(self) -> Mapping[str, Any]:
        """The backend's own configuration."""
        return self.spec.config


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


class LocalProgram(msgspec.Struct, frozen=True, kw_only=True):
    """The program that runs an engine on a machine without containers, in place of its image.

    `images` are patterns (fnmatch) of the images that it stands for. `paths` are the names of the program inside the image: a container
    command that begins with one of them is replaced by the program. `subcommand` comes first unless the container's command names the
    program itself; `default_args` are used when the container has neither command nor args.
    """

    program: str
    images: tuple[str, ...]
    paths: tuple[str, ...] = ()
    subcommand: tuple[str, ...] = ()
    default_args: tuple[str, ...] = ()
    fallback: str = ""
    """A console script of FlexInfer that takes the same command line, used where `program` is not on PATH; empty: none."""
    install: str = ""
    """How to install the program, as an imperative."""


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


def no_arguments(_serving: Serving) -> Sequence[str]:
    """Return nothing: the engine is configured by its environment."""
    return ()


def no_environment(_serving: Serving) -> Mapping[str, str]:
    """Return nothing: the engine is configured by its arguments."""
    return {}


def no_more_problems(_spec: ModelSpec) -> Sequence[str]:
    """Return nothing: the allow-list says all that can be wrong."""
    return ()


def _matches(pattern: str, path: str) -> bool:
    """Return whether a path is the pattern's own or, where that ends in `/*`, below it; a step up leads nowhere."""
    if not pattern.endswith("/*"):
        return path == pattern
    below = path.removeprefix(pattern[:-1])
    return below != path and bool(below) and ".." not in below.split("/")


class Backend(msgspec.Struct, frozen=True, kw_only=True):
    """An engine. `images` is vendor -> default image; `health` is the path that is probed until it answers 2xx.

    A variable `FLEXINFER_IMAGE_<NAME>_<VENDOR>`, or else `FLEXINFER_IMAGE_<NAME>`, replaces the default image.
    """

    name: str
    title: str
    port: int
    images: Mapping[str, str]
    schemes: tuple[str, ...]
    health: str
    api_paths: tuple[str, ...]
    """What clients may call: exact paths of the engine such as `/v1/chat/completions`; an end of `/*` stands for all paths below.

    What manages the engine (loading of adapters, slots, shut-down) is not among them."""
    aliases: tuple[str, ...] = ()
    command: tuple[str, ...] = ()
    args: Callable[[Serving], Sequence[str]] = no_arguments
    env: Callable[[Serving], Mapping[str, str]] = no_environment
    config: Mapping[str, options.Key] = {}
    check: Callable[[ModelSpec], Sequence[str]] = no_more_problems
    """Returns sentences on what of `spec.config` cannot work."""
    unsupported_architectures: tuple[ArchitectureRule, ...] = ()
    """GPU generations that the engine cannot run on; the placer never chooses them, unless an annotation of the Model allows it."""
    experimental_architectures: tuple[ArchitectureRule, ...] = ()
    """GPU generations on which the engine may fail; the placer warns. Of what stands in neither, nothing is known."""
    most_devices: int = 0
    """The most GPUs that one engine can use; 0: as many as the spec may ask for."""
    local_program: LocalProgram | None = None
    """What runs the engine on the local node; None: it needs a cluster."""
    expects: Callable[[Serving], str] = lambda _serving: ""
    """A text that the health answer must contain before the engine counts as ready."""
    capacity: Callable[[ModelSpec], int] = lambda _spec: 0
    """How many requests the engine works on at once; 0: no limit."""
    served_name: Callable[[str, ModelSpec], str] = lambda name, _spec: name
    """The `model` that the engine itself knows; the proxy writes it into the request."""
    in_flight: str = ""
    """Path of the engine's Prometheus metrics that count its requests in flight; empty: it has none."""
    in_flight_metrics: tuple[str, ...] = ()
    demand: DemandOf | None = None
    """How the engine uses GPU memory, for an estimate from the headers of its weights; None: they do not say what it needs."""
    takes_share: Callable[[ModelSpec], bool] = lambda _spec: False
    """Whether the engine takes as much memory as its command line gives it, so that measuring it says nothing of its need."""
    takes_free: Callable[[ModelSpec], bool] = lambda _spec: False
    """Whether the engine makes use of what is free at its start, so that measuring it says nothing of its need either."""
    loading_seconds: float = 0
    """How long a start may take without progress, in seconds; 0: FLEXINFER_LOADING_SECONDS."""
    shared_memory: str = ""
    """Size of /dev/shm, as a quantity; empty: the container runtime's default."""
    root: bool = False
    """Whether its image was made to run as root and has not been seen to run otherwise in our tests."""
    tried: bool = True
    """Whether a test starts this engine or checks its manifest; else it follows the engine's documentation alone."""

    @property
    def vendors(self) -> tuple[str, ...]:
        """What the engine runs on: cpu, nvidia, amd."""
        return tuple(self.images)

    @property
    def image_key(self) -> str:
        """The suffix of the variable that replaces the image for all vendors, in lower case, such as `mlc_llm`."""
        return self.name.replace("-", "_")

    @property
    def image_keys(self) -> tuple[str, ...]:
        """The suffixes of all variables that replace an image: for all vendors, then for each."""
        return (self.image_key, *(f"{self.image_key}_{vendor}" for vendor in self.vendors))

    def serves(self, path: str) -> bool:
        """Return whether clients may call a path of the engine, given without its query."""
        return any(_matches(pattern, path) for pattern in self.api_paths)

    def needs_root(self, vendor: str) -> bool:
        """Return whether the engine must be root: AMD's device nodes belong to groups whose ids differ from node to node."""
        return self.root or vendor == AMD

    def image(self, vendor: str, overrides: Mapping[str, str]) -> str:
        """Return the image for a vendor; `overrides` is the `images` of the settings, such as {"vllm_amd": ...}."""
        specific = overrides.get(f"{self.image_key}_{vendor}")
        return specific or overrides.get(self.image_key) or self.images.get(vendor, "")

    def refuse(self, spec: ModelSpec) -> tuple[Problem, ...]:
        """Return why a spec cannot be served by this engine; empty when it can."""
        return (*self._vendor(spec), *self._count(spec), *self._scheme(spec), *self._config(spec))

    def _vendor(self, spec: ModelSpec) -> list[Problem]:
        vendor = spec.gpu.vendor if spec.gpu else CPU
        fits = any(v in GPUS for v in self.vendors) if vendor == "auto" else vendor in self.vendors
        if fits:
            return []
        remedy = "set spec.gpu" if vendor == CPU else f"use one of {', '.join(self.vendors)}"
        return [
            Problem(
                Reason.UNSUPPORTED_VENDOR,
                f"{self.name} does not run on {vendor}, only on {', '.join(self.vendors)}; {remedy}",
            )
        ]

    def _count(self, spec: ModelSpec) -> list[Problem]:
        if not self.most_devices or spec.devices <= self.most_devices:
            return []
        one = "one GPU" if self.most_devices == 1 else f"{self.most_devices} GPUs"
        message = f"spec.gpu.count is {spec.devices}, but {self.name} uses at most {one}; set it to {self.most_devices}"
        return [Problem(Reason.INVALID_SPEC, message)]

    def _scheme(self, spec: ModelSpec) -> list[Problem]:
        scheme = spec.source.partition("://")[0]
        if scheme in self.schemes:
            return []
        forms = ", ".join(f"{scheme}://" for scheme in self.schemes)
        return [
            Problem(Reason.UNSUPPORTED_SOURCE, f"{self.name} cannot serve {scheme}://; it serves {forms}")
        ]

    def _config(self, spec: ModelSpec) -> list[Problem]:
        faults = [self._key(name, spec.config[name]) for name in sorted(spec.config)]
        sentences = [sentence for sentence in faults if sentence] or list(self.check(spec))
        return [Problem(Reason.INVALID_CONFIG, sentence) for sentence in sentences]

    def _key(self, name: str, value: object) -> str:
        key = self.config.get(name)
        if key is None:
            return f"spec.config.{name} is not a key of {self.name}; {self._remedy(name)}"
        fault = options.fault(key, value)
        return f"spec.config.{name} {fault}" if fault else ""

    def _remedy(self, name: str) -> str:
        near = difflib.get_close_matches(name, list(self.config), 1)
        if near:
            return f"did you mean {near[0]}?"
        return f"remove it, or use one of {', '.join(sorted(self.config))}" if self.config else "remove it"
