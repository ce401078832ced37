"""Forms: which model a body of multipart/form-data names, whatever else is in it."""

import email
import email.policy
import random

import pytest

from flexinfer.proxy.errors import RequestError
from flexinfer.proxy.forms import is_form, model_field, with_model

TYPE = "multipart/form-data; boundary=b0"


def a_form(
    *parts: tuple[str, bytes], before: bytes = b"", after: bytes = b"", boundary: bytes = b"b0"
) -> bytes:
    """Return a form of parts, each with what its Content-Disposition says after `form-data`."""
    body = before
    for disposition, content in parts:
        body += b"--" + boundary + b"\r\nContent-Disposition: form-data" + disposition.encode() + b"\r\n\r\n"
        body += content + b"\r\n"
    return body + b"--" + boundary + b"--\r\n" + after


FILE = ('; name="file"; filename="a.wav"', b"RIFF\r\n\r\n--b\r\n\x00\xff")


@pytest.mark.parametrize(
    "form",
    [
        a_form(('; name="model"', b"whisper"), FILE),
        a_form(FILE, ("; name=model", b"whisper")),
        a_form(FILE, ('; NAME = "model"', b"whisper"), FILE),
        a_form(('; name="mo\\del"', b"whisper")),
        a_form(FILE, ('; name="model"', b"whisper"), before=b"preamble\r\n", after=b"epilogue"),
        a_form(('; filename="x; name=\\"model\\""; name="file"', b"no"), ('; name="model"', b"whisper")),
        a_form(('; name="file"', b'--b0\r\nContent-Disposition: form-data; name="model"'), ('; name="model"', b"whisper")),
        a_form(('; name="file"', b"\r\n--b0x\r\n"), ('; name="model"', b"whisper")),
        a_form(('; name="model"', b"whisper")).replace(b"--b0\r\n", b"--b0 \t\r\n"),
        a_form(('; name="model"', b"whisper")).replace(b"Content-D", b"Content-Type: text/plain\r\ncontent-d"),
    ],
)  # fmt: skip
def test_the_field_is_found_and_replaced_alone(form: bytes) -> None:
    """Every other byte stays, those of files included."""
    field = model_field(form, TYPE)
    assert field is not None
    assert field.value == "whisper"
    other = with_model(form, field, "other/model")
    assert other == form[: field.start] + b"other/model" + form[field.end :]
    again = model_field(other, TYPE)
    assert again is not None
    assert again.value == "other/model"


@pytest.mark.parametrize(
    "form", [a_form(FILE), a_form(), a_form(('; filename="model"', b"x")), a_form(("", b"model"))]
)
def test_a_form_may_name_no_model(form: bytes) -> None:
    """The path names it then."""
    assert model_field(form, TYPE) is None


@pytest.mark.parametrize(
    ("form", "content_type", "cause"),
    [
        (a_form(('; name="model"', b"a"), ('; name="model"', b"b")), TYPE, "the field `model` twice"),
        (a_form(('; name="model"', b"x" * 2000)), TYPE, "longer than 1024 bytes"),
        (a_form(('; name="model"', b"\xff")), TYPE, "not UTF-8"),
        (a_form(*[FILE] * 200), TYPE, "more than 128 parts"),
        (a_form(FILE)[:-6], TYPE, "ends before its last boundary"),
        (b"", TYPE, "ends before its last boundary"),
        (b"--b0\r\nno headers\r\n--b0--", TYPE, "no headers"),
        (a_form(FILE), "multipart/form-data", "no boundary"),
        (a_form(FILE), "multipart/form-data; boundary=", "no boundary"),
        (a_form(FILE), f"multipart/form-data; boundary={'x' * 80}", "no boundary"),
        (a_form(FILE), "multipart/form-data; boundary=\u00e4", "no boundary"),
    ],
)
def test_what_servers_would_read_differently_is_a_400_with_the_cause(
    form: bytes, content_type: str, cause: str
) -> None:
    """Before any Model is started."""
    with pytest.raises(RequestError) as raised:
        model_field(form, content_type)
    assert (raised.value.status, raised.value.code) == (400, "invalid_form")
    assert cause in raised.value.message


@pytest.mark.parametrize("seed", range(200))
def test_any_bytes_are_a_form_or_a_400(seed: int) -> None:
    """And what is a form to the parser of the standard library has the same model here."""
    draw = random.Random(seed)
    words = [
        b"--b0",
        b"\r\n",
        b"\r\n--b0",
        b"--",
        b"\r\n\r\n",
        b'Content-Disposition: form-data; name="model"',
        b"x",
    ]
    body = b"--b0\r\n" + b"".join(draw.choices(words, k=draw.randrange(1, 30)))
    try:
        field = model_field(body, TYPE)
    except RequestError as error:
        assert error.status == 400
        return
    if field is not None:
        assert body[field.start : field.end] == field.value.encode()


@pytest.mark.parametrize("seed", range(100))
def test_a_form_that_a_client_writes_reads_as_to_the_standard_library(seed: int) -> None:
    """Random files around the field."""
    draw = random.Random(seed)
    files = [
        (f'; name="f{n}"; filename="{n}"', draw.randbytes(draw.randrange(200)))
        for n in range(draw.randrange(4))
    ]
    parts = [*files, ('; name="model"', f"m{seed}".encode())]
    draw.shuffle(parts)
    form = a_form(*parts)
    message = email.message_from_bytes(
        f"Content-Type: {TYPE}\r\n\r\n".encode() + form, policy=email.policy.HTTP
    )
    (named,) = [
        p for p in message.iter_parts() if p.get_param("name", header="content-disposition") == "model"
    ]
    field = model_field(form, TYPE)
    assert field is not None
    assert field.value == named.get_payload() == f"m{seed}"


@pytest.mark.parametrize("text", ["multipart/form-data; boundary=x", "Multipart/Form-Data;boundary=x"])
def test_a_form_is_known_by_its_content_type(text: str) -> None:
    """In any case."""
    assert is_form(text)
    assert not is_form("application/json")
    assert not is_form("")


def test_a_large_file_is_passed_over_at_once() -> None:
    """The body may be as large as the limit; only delimiters are looked for."""
    form = a_form(('; name="file"', b"\r\n--b" * (4 << 20)), ('; name="model"', b"whisper"))
    field = model_field(form, TYPE)
    assert field is not None
    assert field.value == "whisper"
