"""Terminals that cannot show every character: what any command prints reaches them."""

import io
import json
import os
import subprocess
import sys

import pytest

from flexinfer.cli import terminal


def written(text: str, encoding: str, **environment: str) -> bytes:
    """Return the bytes that a stream of an encoding writes of a text."""
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding=encoding)
    terminal.prepare((stream,), environment)
    stream.write(text)
    stream.flush()
    return raw.getvalue()


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\N{CHECK MARK} Placed", b"+ Placed"),
        ("\N{BALLOT X} Cached", b"x Cached"),
        ("cut\N{HORIZONTAL ELLIPSIS}", b"cut..."),
        ("62 \N{DEGREE SIGN}C", b"62 deg C"),
        ("Qualit\N{LATIN SMALL LETTER A WITH DIAERESIS}t", b"Qualitat"),
        ("\N{CJK UNIFIED IDEOGRAPH-4F60} \N{GRINNING FACE}", b"\\u4f60 \\ud83d\\ude00"),
        ("\udcff", b"\\udcff"),
        ("\N{VULGAR FRACTION ONE HALF}", b"\\u00bd"),
    ],
)
@pytest.mark.parametrize(
    "environment", [{"LANG": "C"}, {"LC_ALL": "POSIX", "LANG": "de_DE.UTF-8"}, {"LC_CTYPE": "C"}]
)
def test_the_c_locale_gets_ascii(text: str, shown: bytes, environment: dict[str, str]) -> None:
    """Python itself writes UTF-8 there."""
    assert written(text, "utf-8", **environment) == shown
    assert written(text, "ascii") == shown


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"LANG": "en_GB.UTF-8"},
        {"LANG": "C.UTF-8"},
        {"LANG": "C", "LC_ALL": "C.UTF-8"},
        {"LANG": "C", "LC_CTYPE": "en_GB.UTF-8"},
        {"LANG": "C", "PYTHONIOENCODING": "utf-8"},
    ],
)
def test_every_other_locale_gets_what_its_encoding_can_show(environment: dict[str, str]) -> None:
    """Only what Latin-1 lacks is replaced in Latin-1."""
    text = "\N{CHECK MARK} gr\N{LATIN SMALL LETTER U WITH DIAERESIS}n"
    assert written(text, "utf-8", **environment) == text.encode()
    assert written(text, "latin-1", **environment) == b"+ gr\xfcn"


def test_json_is_the_same_on_every_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    """As escapes, so that no value is changed by a terminal that lacks a character."""
    terminal.print_json({"name": "gr\N{LATIN SMALL LETTER U WITH DIAERESIS}n \N{GRINNING FACE}"})
    printed = capsys.readouterr().out
    assert printed.isascii()
    assert json.loads(printed) == {"name": "gr\N{LATIN SMALL LETTER U WITH DIAERESIS}n \N{GRINNING FACE}"}


@pytest.mark.parametrize("environment", [{"LANG": "C"}, {"LC_ALL": "C"}, {"PYTHONIOENCODING": "ascii"}])
def test_a_command_prints_ascii_under_the_c_locale(environment: dict[str, str]) -> None:
    """The command itself, in a process of its own: also what its errors quote."""
    own = {k: v for k, v in os.environ.items() if not k.startswith(("LC_", "LANG", "PYTHON"))}
    folder = "/nowhere/\N{CHECK MARK}"
    done = subprocess.run(
        [sys.executable, "-m", "flexinfer.cli", "why", "a", "--state", folder],
        env=own | environment,
        capture_output=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.isascii()
    assert b"/nowhere/+" in done.stderr or b"/nowhere/\\u" in done.stderr
