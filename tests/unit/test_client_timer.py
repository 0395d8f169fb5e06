"""The timer wheel: near timers are exact to a tick, far ones come late."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from freepage_client.timer import HZ, seconds_at, timer_delay_s


@pytest.mark.parametrize(
    ("now_s", "delay_s", "fires_s"),
    [
        (0.0, 0.1, 0.104),  # 25 ticks: the next tick after
        (0.0, 1.0, 1.024),  # 250 ticks: granule 8
        (0.0, 5.0, 5.12),  # 1250 ticks: granule 64
        (5.12, 5.0, 10.24),
        (0.2, 5.0, 5.376),
        (0.0, 30.0, 30.72),  # 7500 ticks: granule 512
    ],
)
def test_a_timer_fires_at_the_end_of_its_bucket(now_s: float, delay_s: float, fires_s: float) -> None:
    assert now_s + timer_delay_s(now_s, delay_s) == pytest.approx(fires_s)


@given(st.integers(0, 1 << 40))
def test_the_first_moment_of_a_tick(ticks: int) -> None:
    moment = seconds_at(ticks)
    assert int(moment * HZ) == ticks
    if ticks:
        assert int(math.nextafter(moment, 0) * HZ) == ticks - 1
