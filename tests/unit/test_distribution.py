"""How tests are distributed: what waits and what computes run beside each other, and nothing long is left for the end."""

from tests.distribution import in_order, next_of, takes_more, unit_of

UNITS = (
    "tests/conformance/test_pods.py",
    "tests/e2e/test_demo.py",
    "tests/e2e/test_killed_swaps.py",
    "tests/simulation/test_histories.py::test_every_history[0-9]",
    "tests/unit/api/test_model.py",
)


def test_the_longest_that_wait_are_begun_first_and_what_is_spread_comes_last() -> None:
    """The end is made of short pieces."""
    assert in_order(UNITS) == [
        "tests/e2e/test_killed_swaps.py",
        "tests/e2e/test_demo.py",
        "tests/conformance/test_pods.py",
        "tests/unit/api/test_model.py",
        "tests/simulation/test_histories.py::test_every_history[0-9]",
    ]


def test_one_worker_computes_while_the_others_wait() -> None:
    """Each takes what is left at the end."""
    units = in_order(UNITS)
    assert next_of(units, "gw0") == "tests/unit/api/test_model.py"
    assert next_of(units, "gw1") == "tests/e2e/test_killed_swaps.py"
    assert next_of(units[:3], "gw0") == "tests/e2e/test_killed_swaps.py"
    assert next_of(units[3:], "gw1") == "tests/unit/api/test_model.py"


def test_what_computes_at_the_end_is_taken_by_one_worker_for_each_core() -> None:
    """More processes than cores would take longer for the same work."""
    units = in_order(UNITS)
    assert [takes_more(units, f"gw{number}", 2) for number in range(4)] == [True] * 4
    assert [takes_more(units[3:], f"gw{number}", 2) for number in range(4)] == [True, True, False, False]


def test_a_file_runs_on_one_worker_unless_it_is_spread() -> None:
    """Its tests may share an instance."""
    assert unit_of("tests/e2e/test_demo.py::test_one[a::b]") == "tests/e2e/test_demo.py"
    one = "tests/simulation/test_histories.py::test_every_history[0-9]"
    assert unit_of(one) == one
