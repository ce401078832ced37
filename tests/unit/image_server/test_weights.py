"""Files that a pipeline is made of, and what is said of one that is not what it should be; nothing here needs torch."""

from pathlib import Path

import pytest

from flexinfer.image_server import schedulers
from flexinfer.image_server.weights import not_json, stored_type

HEADER = b'{"__metadata__":{},"a":{"dtype":"BF16"}}'


def a_file(folder: Path, content: bytes) -> Path:
    """Return a file with this content."""
    file = folder / "diffusion_pytorch_model.safetensors"
    file.write_bytes(content)
    return file


@pytest.mark.parametrize(("header", "kind"), [(HEADER, "BF16"), (b'{"__metadata__":{}}', ""), (b"{}", "")])
def test_the_type_of_the_first_tensor_is_that_of_the_weights(
    tmp_path: Path, header: bytes, kind: str
) -> None:
    """Of a file without tensors there is none."""
    assert stored_type(a_file(tmp_path, len(header).to_bytes(8, "little") + header + b"weights")) == kind


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"<!DOCTYPE html><html>Sign in</html>", 'its 35 bytes begin with "<!DOCTYPE html><html>Sign in</html>", a web page'),
        (b'{"error":"not found"}', 'begin with "{"error":"not found"}"'),
        (b"", "its 0 bytes are none"),
        (bytes(range(8)) + b"x", "begin with the bytes 00 01 02 03 04 05 06 07"),
        (len(HEADER).to_bytes(8, "little") + HEADER[:-3], "begin with the bytes 28 00"),
        ((2).to_bytes(8, "little") + b"[]", "begin with the bytes 02 00"),
        ((8).to_bytes(8, "little") + b'{"a":{}}', "begin with the bytes 08 00"),
        ((8).to_bytes(8, "little") + b"[" * 100_000, "begin with the bytes 08 00"),
    ],
)  # fmt: skip
def test_a_file_that_is_none_is_named_with_how_it_begins(tmp_path: Path, content: bytes, words: str) -> None:
    """As that of a hub that answered with a page: an error of a JSON decoder names neither the file nor what helps."""
    file = a_file(tmp_path, content)
    with pytest.raises(ValueError, match="is no safetensors file") as raised:
        stored_type(file)
    text = str(raised.value)
    assert text.startswith(
        f"{file} is no safetensors file: its header in JSON is expected after 8 bytes, and "
    )
    assert words in text
    assert text.endswith("; put the complete file in its place")


def test_a_file_of_the_configuration_that_is_no_json_is_named(tmp_path: Path) -> None:
    """What reads it says only where the JSON ends."""
    (tmp_path / "tokenizer").mkdir()
    (tmp_path / "model_index.json").write_text("{}")
    file = tmp_path / "tokenizer" / "tokenizer_config.json"
    file.write_text('{"a": 1}')
    assert not_json(tmp_path) == ""
    file.write_text("<html>not found</html>")
    assert not_json(tmp_path) == (
        f'{file} is no JSON: its 22 bytes begin with "<html>not found</html>", a web page; put the complete file in its place'
    )


class EulerDiscreteScheduler:
    """A scheduler that needs nothing more."""


class LMSDiscreteScheduler:
    """What diffusers has in place of one whose libraries are not installed."""

    _backends = ("json", "no_such_library", "nor_this_one")


KINDS = [LMSDiscreteScheduler, EulerDiscreteScheduler]


def test_a_scheduler_is_chosen_by_its_name() -> None:
    """Of those that fit the pipeline."""
    assert schedulers.chosen(KINDS, "EulerDiscreteScheduler") is EulerDiscreteScheduler


@pytest.mark.parametrize(
    ("name", "cause"),
    [
        (
            "LMSDiscreteScheduler",
            ", which needs no_such_library and nor_this_one, and this image has none of that",
        ),
        ("Euler", ""),
    ],
)
def test_a_scheduler_that_cannot_be_used_is_refused_by_the_field(name: str, cause: str) -> None:
    """With those that can; a library that is missing is named."""
    with pytest.raises(ValueError, match=r"spec\.config\.scheduler") as raised:
        schedulers.chosen(KINDS, name)
    expected = f"spec.config.scheduler is {name}{cause}; this pipeline takes EulerDiscreteScheduler: choose one of them"
    assert str(raised.value) == expected
