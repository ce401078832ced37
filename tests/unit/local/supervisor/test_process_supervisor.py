"""The back-off between a death and the next start."""

from flexinfer.local.supervisor.process_supervisor import MAX_DELAY, next_delay


def test_the_pause_doubles_while_it_dies_young_and_is_short_again_after_calm() -> None:
    """Bounded back-off: 0.1 s, doubling to 5 s, back to 0.1 s after 30 s alive."""
    pauses, pause = [], 0.0
    for _ in range(9):
        pause = next_delay(pause, 1.0)
        pauses.append(pause)
    assert pauses[:3] == [0.1, 0.2, 0.4]
    assert pauses[-1] == MAX_DELAY
    assert next_delay(MAX_DELAY, 31.0) == 0.1
