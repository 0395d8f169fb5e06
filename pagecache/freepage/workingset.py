"""Shadow entries: telling a page that comes back too late from one that was evicted too early (mm/workingset.c).

`nonresident_age` counts evictions and activations. An evicted page leaves a shadow with the age of that moment; when it
is read again, the age since then is its refault distance. A distance no longer than the active list means: with the
active list's memory the page would still be here. It is then put on the active list at once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .folio import ACTIVE, WORKINGSET

if TYPE_CHECKING:
    from .folio import Folio
    from .vmscan import MemCgroup


def unpack_shadow(shadow: int) -> tuple[int, bool]:
    """(age, workingset) of what stays of an evicted page: an integer, as in the kernel. Its group is the file's."""
    return shadow >> 1, bool(shadow & 1)


def workingset_eviction(memcg: MemCgroup, folio: Folio, off: int) -> int:
    """The shadow of a page that reclaim is about to remove; ages the lruvec by one."""
    lruvec = memcg.lruvec
    age = lruvec.nonresident_age
    lruvec.nonresident_age = age + 1
    return age << 1 | (folio.more[off] & WORKINGSET != 0)


def workingset_refault(memcg: MemCgroup, folio: Folio, off: int, shadow: int) -> None:
    """The page was inserted over `shadow`, for reading: decide whether it goes to the active list."""
    stat, lruvec = memcg.stat, memcg.lruvec
    stat.workingset_refault_file += 1
    age, workingset = unpack_shadow(shadow)
    if lruvec.nonresident_age - age > lruvec.nr_active:
        return
    folio.state[off] |= ACTIVE
    lruvec.nonresident_age += 1
    stat.workingset_activate_file += 1
    if workingset:
        folio.more[off] |= WORKINGSET
        stat.workingset_restore_file += 1
