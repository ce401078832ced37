"""What is worked out once for all Models of a class: kept as long as all that it follows from is the very same."""

import msgspec

from flexinfer.events import events
from flexinfer.placer import answers
from flexinfer.placer.requirements import Requirements, requirements_of
from flexinfer.state.apply import apply_events
from flexinfer.state.observed import Observation, ObservedState
from tests.builders import NOW, a_model, a_node, a_state


def another(state: ObservedState) -> ObservedState:
    """Return the state after a change of a node."""
    changed = msgspec.structs.replace(a_node("a"), version=9)
    return apply_events(state, [Observation(events.NodeObserved(name="a", node=changed), NOW)])


def a_class() -> Requirements:
    """Return requirements that no other test has kept an answer for."""
    return msgspec.structs.replace(requirements_of(a_model()))


def test_an_answer_is_kept_for_its_state_and_for_no_other() -> None:
    """Also not for the state of before, if that should be decided on again."""
    before, needs, others = a_state(a_node("a")), a_class(), a_class()
    after = another(before)
    answers.keep(needs, before, None, "no node fits")
    assert answers.kept(needs, before, NOW) == "no node fits"
    assert answers.kept(others, before, NOW) is None
    assert answers.kept(needs, after, NOW) is None
    answers.keep(others, after, None, "one fits")
    assert answers.kept(others, after, NOW) == "one fits"
    assert answers.kept(others, before, NOW) is None
    assert answers.kept(needs, after, NOW) is None


def test_an_answer_that_time_alters_is_void_from_then_on() -> None:
    """A sample becomes too old without an event."""
    state, needs = a_state(a_node("a")), a_class()
    answers.keep(needs, state, NOW + 30, "no node fits")
    assert answers.kept(needs, state, NOW + 29) == "no node fits"
    assert answers.kept(needs, state, NOW + 30) is None


def test_the_answers_of_very_many_classes_are_not_kept() -> None:
    """Each class is whatever a user writes into a spec."""
    state, classes = a_state(a_node("a")), [a_class() for _ in range(1000)]
    for needs in classes:
        answers.keep(needs, state, None, "no node fits")
    assert answers.kept(classes[-1], state, NOW) == "no node fits"
    assert sum(answers.kept(needs, state, NOW) is not None for needs in classes) <= 256
