"""flexinfer-llama-server: llama.cpp's server from the xllamacpp wheel, under llama-server's own flags.

It stands in for `llama-server` where that is not on PATH, so that one command line fits both. A flag that it does not know is
refused by name, never ignored. It imports nothing else of FlexInfer.
"""

import argparse
import importlib
import os
import re
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple, NoReturn

Apply = Callable[[Any, Any], None]  # (xllamacpp's CommonParams, the flag's value)
_MOST_DEVICES = 128
_SPINS = 20_000
"""How often a thread that waits for others looks for them before it gives its core away; libgomp's own number is 300,000.

A token of a small model has hundreds of such waits. On two cores, tokens a second: 130 as with 300,000 where they are idle, and 60 in place of 20 beside two busy
loops. Giving the core away at once (OMP_WAIT_POLICY=passive) costs two thirds where they are idle, and 1,000 some 6 %.
"""
_ON_OFF_AUTO = ("on", "off", "auto")
_LAYERS = {"auto": -1, "all": -2}


class Flag(NamedTuple):
    """One flag of llama-server: its spellings, what its value is read as, and where it goes.

    `read` is None for a switch, which stands for `value`.
    """

    names: tuple[str, ...]
    apply: Apply
    read: Callable[[str], Any] | None = str
    choices: tuple[str, ...] | None = None
    value: Any = True
    repeat: bool = False


def to(path: str) -> Apply:
    """Return what sets a (dotted) attribute of the parameters."""

    def apply(params: Any, value: Any) -> None:
        *way, last = path.split(".")
        for step in way:
            params = getattr(params, step)
        setattr(params, last, value)

    return apply


def chosen(path: str, kind: str, members: dict[str, str]) -> Apply:
    """Return what sets an attribute to the member of an xllamacpp enum that a word stands for."""
    assign = to(path)

    def apply(params: Any, value: str) -> None:
        assign(params, getattr(getattr(_library(), kind), members[value]))

    return apply


def _cache_type(path: str) -> Apply:
    assign = to(path)

    def apply(params: Any, value: str) -> None:
        assign(params, getattr(_library().ggml_type, f"GGML_TYPE_{value.upper()}"))

    return apply


def _keys_in(file: str) -> list[str]:
    return [key for line in Path(file).read_text().splitlines() if (key := line.strip())]


def _text_in(file: str) -> str:
    return Path(file).read_text()


def _folder(path: str) -> str:
    """Return a folder as llama-server joins file names to it: with a slash at its end."""
    return path if path.endswith("/") else f"{path}/"


def _names(text: str) -> set[str]:
    return {name for part in text.split(",") if (name := part.strip())}


def _layers(text: str) -> int:
    return _LAYERS[text] if text in _LAYERS else int(text)


def _shares(text: str) -> list[float]:
    """Read `3,1` or `3/1`: the share of the model on each device, in as many places as llama.cpp has."""
    try:
        shares = [float(share) for share in re.split("[,/]", text)]
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a list of shares such as 3,1") from None
    if len(shares) > _MOST_DEVICES:
        raise argparse.ArgumentTypeError(
            f"{len(shares)} shares; llama.cpp has {_MOST_DEVICES} devices at most"
        )
    return shares + [0.0] * (_MOST_DEVICES - len(shares))


def _ignore(_params: Any, _value: Any) -> None:
    """Take a flag whose only value accepted here is what happens anyway."""


def _add_keys(params: Any, groups: list[Any]) -> None:
    params.api_keys = [key for group in groups for key in (group if isinstance(group, list) else [group])]


_CACHE_TYPES = ("f32", "f16", "bf16", "q8_0", "q4_0", "q4_1", "iq4_nl", "q5_0", "q5_1")
_FLASH = {"on": "ENABLED", "off": "DISABLED", "auto": "AUTO"}
_REASONING = {"none": "NONE", "auto": "AUTO", "deepseek": "DEEPSEEK", "deepseek-legacy": "DEEPSEEK_LEGACY"}
_POOLING = {word: word.upper() for word in ("none", "mean", "cls", "last", "rank")}
_SPLIT = {word: word.upper() for word in ("none", "layer", "row")}
_ROPE = {word: word.upper() for word in ("none", "linear", "yarn")}


def _members(prefix: str, words: dict[str, str]) -> dict[str, str]:
    return {word: f"{prefix}_{member}" for word, member in words.items()}


FLAGS: tuple[Flag, ...] = (
    Flag(("--host",), lambda params, value: setattr(params, "hostnames", [value])),
    Flag(("--port",), to("port"), int),
    Flag(("--model", "-m"), to("model.path")),
    Flag(("--alias", "-a"), to("model_alias"), _names),
    Flag(("--ctx-size", "-c"), to("n_ctx"), int),
    Flag(("--n-gpu-layers", "--gpu-layers", "-ngl"), to("n_gpu_layers"), _layers),
    Flag(("--parallel", "-np"), to("n_parallel"), int),
    Flag(("--threads", "-t"), to("cpuparams.n_threads"), int),
    Flag(("--threads-batch", "-tb"), to("cpuparams_batch.n_threads"), int),
    Flag(("--threads-http",), to("n_threads_http"), int),
    Flag(("--batch-size", "-b"), to("n_batch"), int),
    Flag(("--ubatch-size", "-ub"), to("n_ubatch"), int),
    Flag(("--predict", "--n-predict", "-n"), to("n_predict"), int),
    Flag(("--embeddings", "--embedding"), to("embedding"), None),
    Flag(
        ("--pooling",),
        chosen("pooling_type", "llama_pooling_type", _members("LLAMA_POOLING_TYPE", _POOLING)),
        choices=tuple(_POOLING),
    ),
    Flag(("--metrics",), to("endpoint_metrics"), None),
    Flag(("--props",), to("endpoint_props"), None),
    Flag(("--slots",), to("endpoint_slots"), None),
    Flag(("--no-slots",), to("endpoint_slots"), None, value=False),
    Flag(("--jinja",), to("use_jinja"), None),
    Flag(("--no-jinja",), to("use_jinja"), None, value=False),
    Flag(("--chat-template",), to("chat_template")),
    Flag(("--chat-template-file",), to("chat_template"), _text_in),
    Flag(
        ("--reasoning-format",),
        chosen(
            "reasoning_format", "common_reasoning_format", _members("COMMON_REASONING_FORMAT", _REASONING)
        ),
        choices=tuple(_REASONING),
    ),
    Flag(("--reasoning-budget",), to("sampling.reasoning_budget_tokens"), int),
    Flag(
        ("--flash-attn", "-fa"),
        chosen("flash_attn_type", "llama_flash_attn_type", _members("LLAMA_FLASH_ATTN_TYPE", _FLASH)),
        choices=_ON_OFF_AUTO,
    ),
    Flag(("--mmproj", "-mm"), to("mmproj.path")),
    Flag(("--no-webui", "--no-ui"), to("ui"), None, value=False),
    Flag(("--webui", "--ui"), to("ui"), None),
    Flag(("--cache-type-k", "-ctk"), _cache_type("cache_type_k"), choices=_CACHE_TYPES),
    Flag(("--cache-type-v", "-ctv"), _cache_type("cache_type_v"), choices=_CACHE_TYPES),
    Flag(("--kv-unified", "-kvu"), to("kv_unified"), None),
    Flag(("--no-kv-unified", "-no-kvu"), to("kv_unified"), None, value=False),
    Flag(("--cont-batching", "-cb"), to("cont_batching"), None),
    Flag(("--no-cont-batching", "-nocb"), to("cont_batching"), None, value=False),
    Flag(("--context-shift",), to("ctx_shift"), None),
    Flag(("--no-context-shift",), to("ctx_shift"), None, value=False),
    Flag(("--no-warmup",), to("warmup"), None, value=False),
    Flag(
        ("--fit", "-fit"),
        lambda params, value: setattr(params, "fit_params", value == "on"),
        choices=("on", "off"),
    ),
    Flag(("--device", "-dev"), _ignore, choices=("none", "cpu", "CPU")),
    Flag(("--main-gpu", "-mg"), to("main_gpu"), int),
    Flag(
        ("--split-mode", "-sm"),
        chosen("split_mode", "llama_split_mode", _members("LLAMA_SPLIT_MODE", _SPLIT)),
        choices=tuple(_SPLIT),
    ),
    Flag(("--tensor-split", "-ts"), to("tensor_split"), _shares),
    Flag(
        ("--rope-scaling",),
        chosen("rope_scaling_type", "llama_rope_scaling_type", _members("LLAMA_ROPE_SCALING_TYPE", _ROPE)),
        choices=tuple(_ROPE),
    ),
    Flag(("--rope-freq-base",), to("rope_freq_base"), float),
    Flag(("--rope-freq-scale",), to("rope_freq_scale"), float),
    Flag(("--seed", "-s"), to("sampling.seed"), int),
    Flag(("--temp", "--temperature"), to("sampling.temp"), float),
    Flag(("--top-k",), to("sampling.top_k"), int),
    Flag(("--top-p",), to("sampling.top_p"), float),
    Flag(("--min-p",), to("sampling.min_p"), float),
    Flag(("--slot-save-path",), to("slot_save_path"), _folder),
    Flag(("--sse-ping-interval",), to("sse_ping_interval"), int),
    Flag(("--timeout", "-to"), to("timeout_read"), int),
    Flag(("--api-prefix",), to("api_prefix")),
    Flag(("--api-key",), _add_keys, repeat=True),
    Flag(("--api-key-file",), _add_keys, _keys_in, repeat=True),
)


def parse(arguments: Sequence[str]) -> list[tuple[Flag, Any]]:
    """Return the flags of a command line and their values; exits with a message if one is unknown or wrong."""
    parser = argparse.ArgumentParser(
        prog="flexinfer-llama-server",
        description="llama.cpp's server from the xllamacpp wheel, with llama-server's flags.",
        allow_abbrev=False,
    )
    for index, flag in enumerate(FLAGS):
        _declare(parser, index, flag)
    namespace, unknown = parser.parse_known_args(arguments)
    if unknown:
        parser.error(f"unknown flag {unknown[0]}: install llama.cpp's own llama-server if you need it")
    values = vars(namespace)
    flags = [(flag, values[str(index)]) for index, flag in enumerate(FLAGS) if values[str(index)] is not None]
    if not any("--model" in flag.names for flag, _ in flags):
        parser.error("--model is missing: name a .gguf file")
    return flags


def _declare(parser: argparse.ArgumentParser, index: int, flag: Flag) -> None:
    if flag.read is None:
        parser.add_argument(
            *flag.names, dest=str(index), action="store_const", const=flag.value, default=None
        )
        return
    parser.add_argument(
        *flag.names,
        dest=str(index),
        type=flag.read,
        choices=flag.choices,
        action="append" if flag.repeat else "store",
        default=None,
    )


def parameters(flags: Sequence[tuple[Flag, Any]]) -> Any:
    """Return xllamacpp's parameters, with llama-server's defaults where xllamacpp has others."""
    params = _library().CommonParams()
    params.port = 8080
    keys: list[Any] = []
    for flag, value in flags:
        if flag.apply is _add_keys:
            keys += value
        else:
            flag.apply(params, value)
    _add_keys(params, keys)
    return params


def _library() -> Any:
    if not {"GOMP_SPINCOUNT", "OMP_WAIT_POLICY"} & os.environ.keys():  # libgomp reads them when it is loaded
        os.environ["GOMP_SPINCOUNT"] = str(_SPINS)
    return importlib.import_module("xllamacpp")


def boot() -> NoReturn:
    """Serve until SIGTERM. While the weights load, a signal ends the process by its default action, at once."""
    flags = parse(sys.argv[1:])
    try:
        params = parameters(flags)
    except ImportError as error:
        sys.exit(f"flexinfer-llama-server needs xllamacpp ({error}): pip install 'flexinfer[local]'")
    path = Path(params.model.path)
    if not path.is_file():
        sys.exit(f"no model file at {path}")
    try:
        server = _library().Server(params)  # listens at once, answers 503 until the weights are loaded
    except RuntimeError as error:
        sys.exit(f"{path} could not be served: {error}")
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _leave)
    print(f"listening on {server.listening_address}", flush=True)
    while True:
        signal.pause()


def _leave(_number: int, _frame: FrameType | None) -> NoReturn:
    """End at once: nothing is kept that would have to be saved, and llama.cpp's own teardown takes longer."""
    os._exit(0)


if __name__ == "__main__":
    boot()
