"""Backend: what FlexInfer must know of an engine to check a spec for it, start it and ask whether it answers. Pure.

`spec.config` is an allow-list: a key that an engine does not know, or a value of the wrong type, is refused with its name rather
than dropped.
"""

import difflib
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from flexinfer.api.model import ModelSpec
from flexinfer.api.reasons import Reason

TEXT, INTEGER, NUMBER, SWITCH, TEXTS, PATH = "text", "integer", "number", "switch", "texts", "path"
_FORMS: Mapping[str, str] = {
    TEXT: "a text",
    INTEGER: "a whole number",
    NUMBER: "a number",
    SWITCH: "true or false",
    TEXTS: "a list of texts, or one text with commas",
    PATH: "a path below the model, without `..`",
}
_LONGEST = 4096
CPU, NVIDIA, AMD = "cpu", "nvidia", "amd"
GPUS = (NVIDIA, AMD)
SOMEBODY: Mapping[str, str] = {"HOME": "/tmp", "USER": "flexinfer"}  # noqa: S108 -- inside its container
"""For engines that ask who they are and where they may write: a user whom the image does not know has neither name nor home."""


class Problem(msgspec.Struct, frozen=True):
    """Why a spec cannot be served: a reason for machines, a sentence for people."""

    reason: str
    message: str


class Key(msgspec.Struct, frozen=True, kw_only=True):
    """One key of `spec.config`: its type, and the flag that it becomes; an empty flag is read elsewhere.

    `off` is the flag that says false, for switches that are on by themselves.
    """

    type: str
    flag: str = ""
    off: str = ""
    choices: tuple[str, ...] = ()
    least: float = 0
    absolute: bool = False
    """For a path: whether it may also name a place of its own inside the container."""


class Serving(msgspec.Struct, frozen=True, kw_only=True):
    """One start of an engine: the Model's name and spec, where its weights are, and what it runs on.

    `path` is what the engine is told: a path inside its container, or the name that it pulls by.
    """

    name: str
    spec: ModelSpec
    path: str
    vendor: str = CPU
    architecture: str = ""
    devices: int = 0

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


def nothing_more(_spec: ModelSpec) -> Sequence[str]:
    """Find nothing wrong beyond what the allow-list says."""
    return ()


class Backend(msgspec.Struct, frozen=True, kw_only=True):
    """An engine. `images` is vendor -> its default image; `health` is asked until it answers 2xx.

    `images` are defaults: a setting `FLEXINFER_IMAGE_<NAME>[_<VENDOR>]` goes first.
    """

    name: str
    title: str
    port: int
    images: Mapping[str, str]
    schemes: tuple[str, ...]
    health: str
    aliases: tuple[str, ...] = ()
    command: tuple[str, ...] = ()
    args: Callable[[Serving], Sequence[str]] = no_arguments
    env: Callable[[Serving], Mapping[str, str]] = no_environment
    config: Mapping[str, Key] = {}
    check: Callable[[ModelSpec], Sequence[str]] = nothing_more
    """Return sentences on what of `spec.config` cannot work."""
    expects: Callable[[Serving], str] = lambda _serving: ""
    """A text that the health answer must hold before the engine counts as ready."""
    capacity: Callable[[ModelSpec], int] = lambda _spec: 0
    """How many requests the engine works on at once; 0: as many as come."""
    served_name: Callable[[str, ModelSpec], str] = lambda name, _spec: name
    """The `model` that the engine itself knows: the door writes it into the request."""
    in_flight: str = ""
    """Where the engine tells in Prometheus' text how many requests it works on; empty: it does not."""
    in_flight_metrics: tuple[str, ...] = ()
    loading_seconds: float = 0
    """How long a start may take without progress; 0: as the setting says."""
    shared_memory: str = ""
    """Size of /dev/shm; empty: the container runtime's own."""
    root: bool = False
    """Whether its image was made to run as root and nobody here has seen it run otherwise."""
    tried: bool = True
    """Whether a test starts this engine or checks its manifest; else it follows the engine's documentation alone."""

    @property
    def vendors(self) -> tuple[str, ...]:
        """What the engine runs on: cpu, nvidia, amd."""
        return tuple(self.images)

    def needs_root(self, vendor: str) -> bool:
        """Tell whether the engine must be root: AMD's device nodes belong to groups whose numbers differ from node to node."""
        return self.root or vendor == AMD

    def image(self, vendor: str, settings: Mapping[str, str]) -> str:
        """Return the image for a vendor; `settings` is name of a setting -> image, such as `image_vllm_amd`."""
        setting = f"image_{self.name.replace('-', '_')}"
        return settings.get(f"{setting}_{vendor}") or settings.get(setting) or self.images.get(vendor, "")

    def refuse(self, spec: ModelSpec) -> tuple[Problem, ...]:
        """Return why a spec cannot be served by this engine; empty when it can."""
        return (*self._vendor(spec), *self._scheme(spec), *self._config(spec))

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

    def _scheme(self, spec: ModelSpec) -> list[Problem]:
        scheme = spec.source.partition("://")[0]
        if scheme in self.schemes:
            return []
        forms = ", ".join(f"{known}://" for known in self.schemes)
        return [
            Problem(Reason.UNSUPPORTED_SOURCE, f"{self.name} cannot serve {scheme}://; it serves {forms}")
        ]

    def _config(self, spec: ModelSpec) -> list[Problem]:
        wrong = [self._key(name, spec.config[name]) for name in sorted(spec.config)]
        found = [sentence for sentence in wrong if sentence] or list(self.check(spec))
        return [Problem(Reason.INVALID_CONFIG, sentence) for sentence in found]

    def _key(self, name: str, value: Any) -> str:
        key = self.config.get(name)
        if key is None:
            return f"spec.config.{name} is not a key of {self.name}; {self._remedy(name)}"
        wrong = _wrong(key, value)
        return f"spec.config.{name} {wrong}" if wrong else ""

    def _remedy(self, name: str) -> str:
        near = difflib.get_close_matches(name, list(self.config), 1)
        if near:
            return f"did you mean {near[0]}?"
        return f"remove it, or use one of {', '.join(sorted(self.config))}" if self.config else "remove it"


def flags(serving: Serving, known: Mapping[str, Key]) -> list[str]:
    """Return the flags of those config keys that are plain flags, in the allow-list's order."""
    made: list[str] = []
    for name, key in known.items():
        value = serving.config.get(name)
        if value is None or not (key.flag or key.off):
            continue
        if key.type == SWITCH:
            made += [flag for flag in ((key.flag if value else key.off),) if flag]
        else:
            made += [key.flag, ",".join(texts(value)) if key.type == TEXTS else _written(value)]
    return made


def texts(value: Any) -> list[str]:
    """Return a list of texts, or one text with commas, as a list without blanks."""
    parts = value.split(",") if isinstance(value, str) else value
    return [part.strip() for part in parts if part.strip()]


def whole(config: Mapping[str, Any], name: str, default: int) -> int:
    """Return a whole number of the config."""
    value = config.get(name, default)
    return int(value)


def _written(value: Any) -> str:
    return str(int(value)) if isinstance(value, float) and value == int(value) else str(value)


def _wrong(key: Key, value: Any) -> str:
    """Return what is wrong with a value, as the end of a sentence; empty when it will do."""
    form = _FORMS[key.type]
    if key.type == SWITCH:
        return "" if isinstance(value, bool) else f"must be {form}"
    if key.type in (INTEGER, NUMBER):
        return _wrong_number(key, value, form)
    if key.type == TEXTS:
        items = [value] if isinstance(value, str) else value
        listed = isinstance(items, list) and all(isinstance(i, str) for i in items)
        return next((w for i in items if (w := _wrong_text(i))), "") if listed else f"must be {form}"
    if not isinstance(value, str) or not value:
        return f"must be {form}"
    if key.type == PATH:
        return _wrong_text(value) or _wrong_path(key, value)
    if key.choices and value not in key.choices:
        return f"must be one of {', '.join(key.choices)}"
    return _wrong_text(value)


def _wrong_number(key: Key, value: Any, form: str) -> str:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not math.isfinite(value) or (key.type == INTEGER and value != int(value)):
        return f"must be {form}"
    return f"must be at least {key.least:g}" if value < key.least else ""


def _wrong_text(value: str) -> str:
    if value.startswith("-"):
        return "must not begin with `-`, which the engine would read as a flag"
    if not value.isprintable() or len(value) > _LONGEST:
        return f"must be one printable line of at most {_LONGEST} characters"
    return ""


def _wrong_path(key: Key, value: str) -> str:
    if value.startswith("/") and not key.absolute:
        return f"must be {_FORMS[PATH]}, and may not begin with /"
    return f"must be {_FORMS[PATH]}" if ".." in value.split("/") else ""


DOWNLOAD_KEYS: dict[str, Key] = {
    "hfRevision": Key(type=TEXT),
    "hfAllowPatterns": Key(type=TEXTS),
    "hfIgnorePatterns": Key(type=TEXTS),
}
"""What every engine that takes HF:// knows; `sources` reads them."""
