"""Backend: what FlexInfer must know of an engine to check a spec for it, place it, start it and probe it. Pure."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from flexinfer.api.model import ModelSpec
from flexinfer.api.reasons import Reason
from flexinfer.backends import arguments, options, path_patterns, variables
from flexinfer.backends.failures import Failure
from flexinfer.backends.local_program import LocalProgram
from flexinfer.backends.memory import DemandOf
from flexinfer.backends.operations import Operations
from flexinfer.backends.rules import (
    AMD,
    CPU,
    GPUS,
    NVIDIA,
    OLD_CUDA,
    WITHOUT_ROCM,
    ArchitectureRule,
)

__all__ = [
    "AMD",
    "CPU",
    "FILES",
    "GPUS",
    "HOME_AND_USER",
    "NVIDIA",
    "OLD_CUDA",
    "PROMPTS",
    "TEXT_PATHS",
    "WITHOUT_ROCM",
    "ArchitectureRule",
    "Backend",
    "LocalProgram",
    "Problem",
    "Serving",
]

HOME_AND_USER: Mapping[str, str] = {"HOME": "/tmp", "USER": "flexinfer"}  # noqa: S108 -- inside its container
"""For engines that look up their user and write to its home directory: the image has no entry for the user that they run as."""


PROMPTS = "/var/cache/flexinfer/prompts"
"""Where the folder of a Model's prompt caches is mounted in an engine's container."""
FILES = "/etc/flexinfer"
"""Where `Backend.files` are in an engine's container."""
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

    threads: int = 0
    """How many CPUs its Pod has: its limit, else its request, rounded down to at least 1; 0: neither is stated."""

    @property
    def config(self) -> Mapping[str, Any]:
        """The backend's own configuration."""
        return self.spec.config


def no_arguments(_serving: Serving) -> Sequence[str]:
    """Return nothing: the engine is configured by its environment."""
    return ()


def no_environment(_serving: Serving) -> Mapping[str, str]:
    """Return nothing: the engine is configured by its arguments."""
    return {}


def no_more_problems(_spec: ModelSpec) -> Sequence[str]:
    """Return nothing: the allow-list says all that can be wrong."""
    return ()


_SHORTEST_PREFIX = len("sm_1")


class Backend(msgspec.Struct, frozen=True, kw_only=True):
    """An engine. `images` is vendor -> default image; `health` is the path that is probed until it answers 2xx.

    A variable `FLEXINFER_IMAGE_<NAME>_<ARCHITECTURE>`, `FLEXINFER_IMAGE_<NAME>_<VENDOR>` or `FLEXINFER_IMAGE_<NAME>` replaces the
    default image, the first that is set.
    """

    name: str
    title: str
    port: int
    images: Mapping[str, str]
    schemes: tuple[str, ...]
    health: str
    api_paths: tuple[str, ...]
    """What clients may POST: exact paths of the engine such as `/v1/chat/completions`; an end of `/*` stands for all paths below.

    What manages the engine (loading of adapters, slots, shut-down) is not among them."""
    read_paths: tuple[str, ...] = ()
    """What clients may GET, in the same form; the proxy itself answers GET of `/v1/models`."""
    aliases: tuple[str, ...] = ()
    command: tuple[str, ...] = ()
    args: Callable[[Serving], Sequence[str]] = no_arguments
    env: Callable[[Serving], Mapping[str, str]] = no_environment
    files: Callable[[Serving], Mapping[str, str]] = no_environment
    """Small text files for its container, by name."""
    config: Mapping[str, options.Key] = {}
    check: Callable[[ModelSpec], Sequence[str]] = no_more_problems
    """Returns sentences on what of `spec.config` cannot work."""
    extra: arguments.Extra | None = None
    """What `extraArgs` may not hold; None: the engine takes no arguments, and the key is unknown."""
    denied_variables: tuple[str, ...] = ()
    """Variables, or patterns (fnmatch) of them, that `spec.env` may not set: the engine's own names for what `extra` refuses."""
    tuning: Callable[[Serving], Mapping[str, str]] = no_environment
    """Variables that make the engine work well on its GPU; one that `spec.env` names gives way."""
    unsupported_architectures: tuple[ArchitectureRule, ...] = ()
    """GPU generations that the engine cannot run on; the placer never chooses them, unless an annotation of the Model allows it."""
    experimental_architectures: tuple[ArchitectureRule, ...] = ()
    """GPU generations on which the engine may fail; the placer warns. Nothing is known of a generation that is in neither."""
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
    operations: Operations | None = None
    """How what continues after its request was answered is followed; None: nothing does."""
    demand: DemandOf | None = None
    """How the engine uses GPU memory, for an estimate from the headers of its weights; None: they do not say what it needs."""
    takes_share: Callable[[ModelSpec], bool] = lambda _spec: False
    """Whether the engine takes as much memory as its command line gives it, so that measuring it says nothing of its need."""
    takes_free: Callable[[ModelSpec], bool] = lambda _spec: False
    """Whether the engine makes use of what is free at its start, so that measuring it says nothing of its need either."""
    keeps_mb: Callable[[ModelSpec], int] = lambda _spec: 0
    """How many MiB of prompt caches outlive the engine: it saves and restores slots in PROMPTS, as llama-server does. 0: none."""
    loading_seconds: float = 0
    """How long a start may take without progress, in seconds; 0: FLEXINFER_LOADING_SECONDS."""
    shared_memory: str = ""
    """Size of /dev/shm, as a quantity; empty: the container runtime's default."""
    failures: tuple[Failure, ...] = ()
    """The lines that name the cause of a failed start; the first that is in its output counts. Without one the last line is it."""
    less_memory: str = ""
    """What helps an engine that says itself that it has too little memory, by its own keys."""
    root: bool = False
    """Whether its image was made to run as root and has not been seen to run otherwise in our tests."""
    proven: str = ""
    """The engine and version on which every check of `checks.CHECKS` has run; empty: it follows the engine's documentation, and is unproven."""

    @property
    def keys(self) -> Mapping[str, options.Key]:
        """Every key that `spec.config` may have."""
        return {**self.config, arguments.EXTRA: arguments.KEY} if self.extra is not None else self.config

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

    def command_line(self, serving: Serving) -> list[str]:
        """Return the engine's arguments, those of the spec last."""
        extra = arguments.appended(serving.config) if self.extra is not None else ()
        return [*self.args(serving), *extra]

    def environment(self, serving: Serving) -> Mapping[str, str]:
        """Return the variables that the engine is started with, those of the spec aside."""
        spec_names = {variable.name for variable in serving.spec.env}
        threads = {"OMP_NUM_THREADS": str(serving.threads)} if serving.threads else {}
        tuning = {**threads, **self.tuning(serving)}
        return {**{k: v for k, v in tuning.items() if k not in spec_names}, **self.env(serving)}

    def serves(self, path: str, *, read: bool = False) -> bool:
        """Return whether clients may POST to a path of the engine, given without its query; with `read`, whether they may GET it."""
        return any(
            path_patterns.matches(pattern, path) for pattern in (self.read_paths if read else self.api_paths)
        )

    def needs_root(self, vendor: str) -> bool:
        """Return whether the engine must be root: AMD's device nodes belong to groups whose ids differ from node to node."""
        return self.root or vendor == AMD

    def image(self, vendor: str, overrides: Mapping[str, str], architecture: str = "") -> str:
        """Return the image for a vendor and architecture; `overrides` is the `images` of the settings, such as {"vllm_gfx1100": ...}.

        An override for a generation, such as sm_5, holds for each architecture that begins with it; the longest one counts.
        """
        ends = [architecture[:length] for length in range(len(architecture), _SHORTEST_PREFIX - 1, -1)]
        candidates = (
            overrides.get("_".join((self.image_key, *end))) for end in (*((e,) for e in ends), (vendor,), ())
        )
        return next((image for image in candidates if image), self.images.get(vendor, ""))

    def refuse(self, spec: ModelSpec) -> tuple[Problem, ...]:
        """Return why a spec cannot be served by this engine; empty when it can."""
        parts = (self._vendor, self._count, self._scheme, self._config, self._env)
        return tuple(problem for part in parts for problem in part(spec))

    def _vendor(self, spec: ModelSpec) -> list[Problem]:
        vendor = spec.gpu.vendor if spec.gpu else CPU
        fits = any(v in GPUS for v in self.vendors) if vendor == "auto" else vendor in self.vendors
        if fits:
            return []
        only = ", ".join(self.vendors)
        message = f"{self.name} does not run on {vendor}, only on {only}; use one of {only}"
        if vendor == CPU:
            message = (
                f"{self.name} does not run on the CPU, only on {only}; set spec.gpu, such as {{vendor: auto}}, "
                "or choose llamacpp or ollama, which do"
            )
        return [Problem(Reason.UNSUPPORTED_VENDOR, message)]

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
        message = f"{self.name} cannot serve {scheme}://; it serves {forms}"
        return [Problem(Reason.UNSUPPORTED_SOURCE, message)]

    def _config(self, spec: ModelSpec) -> list[Problem]:
        faults = [self._key(name, spec.config[name]) for name in sorted(spec.config)]
        sentences = [sentence for sentence in faults if sentence]
        if self.extra is not None:
            sentences += self.extra.faults(spec.config.get(arguments.EXTRA), self.keys)
        return [Problem(Reason.INVALID_CONFIG, sentence) for sentence in sentences or self.check(spec)]

    def _key(self, name: str, value: object) -> str:
        if name == arguments.EXTRA and self.extra is None:
            return f"spec.config.{name}: {self.name} takes no arguments; remove it, and set variables in spec.env"
        key = self.keys.get(name)
        if key is None:
            return f"spec.config.{name} {options.unknown(name, value, self.keys, self.name)}"
        fault = options.fault(key, value)
        return f"spec.config.{name} {fault}" if fault else ""

    def _env(self, spec: ModelSpec) -> list[Problem]:
        if not spec.env:
            return []
        reserved_names = variables.owned(self.keys, self._own_variables(), self.denied_variables)
        return [
            Problem(Reason.INVALID_SPEC, sentence) for sentence in variables.faults(spec.env, reserved_names)
        ]

    def _own_variables(self) -> set[str]:
        """Return the variables that the engine is started with on any GPU, whatever its spec says."""
        spec = ModelSpec(backend=self.name, source=f"{self.schemes[0]}://m/m")
        starts = (
            Serving(name="m", spec=spec, path="/m", vendor=vendor, architecture=architecture, devices=devices)
            for vendor in self.vendors
            for architecture in ("", "sm_52", "gfx906", "gfx1100")
            for devices in (1, 2)
        )
        return {name for start in starts for name in self.env(start)}
