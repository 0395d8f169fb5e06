"""When a kernel timer fires: late, and the later the farther away it was set (kernel/time/timer.c, calc_index).

Since Linux 4.8 the timer wheel keeps far timers in coarse buckets and never moves them: at HZ=250 a timer of five
seconds lands in a level with a granule of 64 ticks, and fires up to a quarter of a second after its time. The flusher's
wake-ups are such timers; sleeps of programs (hrtimers) are not.
"""

from __future__ import annotations

from functools import lru_cache
from math import inf, nextafter

HZ = 250

LEVELS = 9
LEVEL_SHIFT = 3
LAST_OF_LEVEL = 63


@lru_cache(maxsize=256)
def seconds_at(ticks: int) -> float:
    """The first moment at which a tick count of int(now_s * HZ) is ``ticks``, to the last bit of a float."""
    s = ticks / HZ
    while s * HZ >= ticks:
        s = nextafter(s, -inf)
    while s * HZ < ticks:
        s = nextafter(s, inf)
    return s


def timer_delay_s(now_s: float, delay_s: float) -> float:
    """Seconds until a timer fires that is set at ``now_s`` to go off after ``delay_s``."""
    now = int(now_s * HZ)
    delta = max(round(delay_s * HZ), 1)
    level = 0
    while level < LEVELS - 1 and delta >= LAST_OF_LEVEL << (level * LEVEL_SHIFT):
        level += 1
    shift = level * LEVEL_SHIFT
    fires = ((now + delta + (1 << shift)) >> shift) << shift
    return fires / HZ - now_s
