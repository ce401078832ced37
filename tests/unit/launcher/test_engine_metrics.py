"""An engine's own number of requests in flight: any text is read, in bounded work."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flexinfer.launcher.engine_metrics import in_flight
from tests.patience import patient

NAMES = ("llamacpp:requests_processing", "llamacpp:requests_deferred")


@pytest.mark.parametrize(
    ("text", "number"),
    [
        pytest.param("llamacpp:requests_processing 2\nllamacpp:requests_deferred 1\n", 3, id="two gauges"),
        pytest.param('# HELP x\nllamacpp:requests_processing{model="m"} 1.0\n', 1, id="labels"),
        pytest.param(
            'llamacpp:requests_processing{model="a } b 7"} 1e0 1395066363000\r\n', 1, id="timestamp"
        ),
        pytest.param("other 5\nllamacpp:requests_processing_total 7\n", None, id="none of them"),
        pytest.param("llamacpp:requests_processing 1e300\n", 1_000_000, id="more than any engine has"),
    ],
)
def test_reads_the_gauges_of_an_engine(text: str, number: int | None) -> None:
    """The Prometheus text format, as far as it is needed."""
    assert in_flight(text, NAMES) == number


@pytest.mark.parametrize(
    "value",
    [
        "1.2.3",
        "1e",
        "e",
        "+",
        "",
        ".",
        "1e999",
        "NaN",
        "+Inf",
        "-Inf",
        "-1",
        "1_0",
        "٣",
        "0x1",
        "1 2 3 4",
        "9" * 500,
    ],
)
def test_a_number_that_cannot_be_read_is_unknown(value: str) -> None:
    """Beside another that can be read as well: a sum of what is known is not the number."""
    assert in_flight(f"llamacpp:requests_processing {value}\nllamacpp:requests_deferred 0\n", NAMES) is None


@given(
    st.lists(
        st.sampled_from(NAMES)
        | st.sampled_from(["{", "}", " ", "\n", "\r", "1", "1e", "999", "+", "nan", '"'])
        | st.text(),
        max_size=60,
    )
)
def test_any_text_has_a_number_or_none(parts: list[str]) -> None:
    """Reading it never raises."""
    number = in_flight("".join(parts), NAMES)
    assert number is None or 0 <= number <= 1000 * 1_000_000


@pytest.mark.parametrize(
    "line",
    [
        "llamacpp:requests_processing 1\n",
        "llamacpp:requests_processing{\n",
        "llamacpp:requests_processing 1 \n\n\n",
        "{}",
    ],
)
def test_a_million_lines_cost_milliseconds(line: str) -> None:
    """Each is looked at once, and only so many of them."""
    began = time.process_time()
    assert in_flight(line * 1_000_000, NAMES) is None
    assert time.process_time() - began < patient(0.5)
