"""flexinfer-llama-server: its flags are llama-server's."""

import importlib.util
import os
import subprocess
import sys

import pytest

from flexinfer.local.llama import parameters, parse

LINE = (
    "--host 127.1.2.3 --port 18099 --model /m.gguf --alias small --ctx-size 2048 --n-gpu-layers 0 --parallel 2 "
    "--threads 3 --threads-batch 4 --batch-size 64 --ubatch-size 32 --metrics --no-webui --cache-type-k q8_0 "
    "--flash-attn off --split-mode layer --tensor-split 3,1 --kv-unified --jinja --chat-template chatml -fit off --reasoning-format none"
)


def test_every_flag_reaches_its_parameter() -> None:
    """Under the names that xllamacpp has for them."""
    if importlib.util.find_spec("xllamacpp") is None:
        pytest.skip("xllamacpp is not installed")
    made = parameters(parse(LINE.split()))
    assert (made.hostnames, made.port, made.model.path, made.model_alias) == (
        ["127.1.2.3"],
        18099,
        "/m.gguf",
        {"small"},
    )
    assert (made.n_ctx, made.n_gpu_layers, made.n_parallel, made.n_batch, made.n_ubatch) == (
        2048,
        0,
        2,
        64,
        32,
    )
    assert (made.cpuparams.n_threads, made.cpuparams_batch.n_threads) == (3, 4)
    assert (made.endpoint_metrics, made.ui, made.kv_unified, made.use_jinja, made.fit_params) == (
        True,
        False,
        True,
        True,
        False,
    )
    assert made.tensor_split[:3] == [3.0, 1.0, 0.0]
    assert (made.chat_template, made.cache_type_k.name, made.flash_attn_type.name) == (
        "chatml",
        "GGML_TYPE_Q8_0",
        "LLAMA_FLASH_ATTN_TYPE_DISABLED",
    )


@pytest.mark.parametrize(
    ("line", "words"),
    [
        pytest.param("-m x --numa distribute", "unknown flag --numa", id="unknown"),
        pytest.param("--port 1", "--model is missing", id="no model"),
        pytest.param("-m x --flash-attn maybe", "invalid choice: 'maybe'", id="no such value"),
        pytest.param("-m x -ts 1,half", "'1,half' is not a list of shares such as 3,1", id="no shares"),
        pytest.param("-m x --mod y", "unknown flag --mod", id="no abbreviations"),
    ],
)
def test_a_wrong_line_is_refused_by_name(line: str, words: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Never ignored."""
    with pytest.raises(SystemExit):
        parse(line.split())
    assert words in capsys.readouterr().err


@pytest.mark.parametrize(
    ("variables", "shown"),
    [
        ({}, "GOMP_SPINCOUNT = '20000'"),
        ({"GOMP_SPINCOUNT": "7"}, "GOMP_SPINCOUNT = '7'"),
        ({"OMP_WAIT_POLICY": "active"}, "OMP_WAIT_POLICY = 'ACTIVE'"),
    ],
)
def test_a_thread_that_waits_for_others_gives_its_core_away_soon(
    variables: dict[str, str], shown: str
) -> None:
    """It would take the core from them where the machine has other work; the user's own choice counts."""
    if importlib.util.find_spec("xllamacpp") is None:
        pytest.skip("xllamacpp is not installed")
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("OMP_", "GOMP_"))}
    done = subprocess.run(
        [sys.executable, "-c", "from flexinfer.local import llama; llama._library()"],
        env=clean | variables | {"OMP_DISPLAY_ENV": "verbose"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert shown in done.stderr
