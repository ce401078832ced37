"""Back-off: kubelet's delays."""

from localkube.kubelet.backoff import BackOff, format_duration


def test_the_first_restart_is_immediate_and_the_next_delays_double_up_to_five_minutes() -> None:
    """None, 10 s, 20 s, ... 300 s."""
    delays = [BackOff().delay(streak) for streak in range(1, 9)]
    assert delays == [0.0, 10.0, 20.0, 40.0, 80.0, 160.0, 300.0, 300.0]


def test_ten_calm_minutes_begin_a_new_streak() -> None:
    """Who ran for ten minutes is not a crash loop."""
    assert [BackOff().streak(7, ran) for ran in (599.0, 600.0)] == [8, 1]


def test_delays_read_as_kubelet_prints_them() -> None:
    """Short and without decimals."""
    assert [format_duration(seconds) for seconds in (10.0, 160.0, 300.0)] == ["10s", "2m40s", "5m0s"]
