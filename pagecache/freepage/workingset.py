"""Shadow entries: telling a page that comes back too late from one that was evicted too early (mm/workingset.c).

`nonresident_age` counts evictions and activations. An evicted page leaves a shadow with the age of that moment; when it
is read again, the age since then is its refault distance. A distance no longer than the active list means: with the
active list's memory the page would still be here. It is then put on the active list at once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from .page import Page

if TYPE_CHECKING:
    from .vmscan import Lruvec, MemCgroup


class Shadow(NamedTuple):
    """What stays of an evicted page in the tree."""

    lruvec: Lruvec
    age: int
    workingset: bool


def workingset_eviction(memcg: MemCgroup, page: Page) -> Shadow:
    """The shadow of a page that reclaim is about to remove; ages the lruvec by one."""
    lruvec = memcg.lruvec
    shadow = Shadow(lruvec, lruvec.nonresident_age, page.workingset)
    lruvec.nonresident_age += 1
    return shadow


def workingset_refault(memcg: MemCgroup, page: Page, shadow: Shadow) -> None:
    """`page` was inserted over `shadow`, for reading: decide whether it goes to the active list."""
    stat = memcg.stat
    stat.workingset_refault_file += 1
    distance = shadow.lruvec.nonresident_age - shadow.age
    if distance > len(shadow.lruvec.active):
        return
    page.active = True
    memcg.lruvec.nonresident_age += 1
    stat.workingset_activate_file += 1
    if shadow.workingset:
        page.workingset = True
        stat.workingset_restore_file += 1


def workingset_activation(page: Page) -> None:
    """A second touch activates the page."""
    page.cache.memcg.lruvec.nonresident_age += 1
