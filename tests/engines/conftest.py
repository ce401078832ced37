"""Engines for the checks; each file says in its fixture `make` what they are."""

from collections.abc import Iterator

import pytest

from tests.engines.program import Make, Program


@pytest.fixture(scope="module")
def engine(make: Make) -> Program:
    """Return one engine that is ready, for all checks that leave it so."""
    return make().start().ready()


@pytest.fixture
def fresh(make: Make) -> Iterator[Program]:
    """Return an engine that is ready, for a check that ends it."""
    program = make().start().ready()
    yield program
    program.end()
