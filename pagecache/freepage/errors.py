"""What the page cache raises, beside OSError from the operations table."""

from __future__ import annotations

import errno


class NoMemory(OSError):
    """The memory cgroup is full and reclaim made no room (ENOMEM of mm/memcontrol.c:try_charge_memcg)."""

    def __init__(self, story: str = "memory cgroup over its limit") -> None:
        super().__init__(errno.ENOMEM, story)


class WouldBlock(RuntimeError):
    """Somebody must wait for a page, but the cache was built without create_future: there is nothing to wait on."""


class RuleViolation(AssertionError):
    """A rule of the hook or of an object's life was broken (strict mode only; otherwise it is counted).

    `rule` is the label value, `story` tells what the object had been through.
    """

    def __init__(self, rule: str, story: str) -> None:
        super().__init__(f"{rule}: {story}")
        self.rule = rule
        self.story = story
