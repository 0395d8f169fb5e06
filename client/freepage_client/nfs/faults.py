"""The NFS client's own lifecycle bugs, for the fault gallery: requests, names and counters that are not given back.

They strike beside the exit door, each at the one place in this package that asks for it by name; the audit sees each of
them (`check.py`). Numbers are the bug classes of pagecache/LOCKING.md.
"""

from __future__ import annotations

from freepage.faults import SiteFault


class LeakSubrequest(SiteFault):
    name = "leak_subrequest"
    bug = "a WRITE that carried a piece of a request keeps its reference: the request, its page and its open file stay"
    caught_by = ("audit",)
    classes = (16,)


class LeakName(SiteFault):
    name = "leak_name"
    bug = "the name that no longer fits into a full directory page is not freed"
    caught_by = ("audit",)
    classes = (17,)


class KeepPrivate(SiteFault):
    name = "keep_private"
    bug = "a page's private flag stays when its request goes: the page can never be reclaimed nor invalidated"
    caught_by = ("private_left_behind", "audit")
    classes = (18,)


class KeepRequest(SiteFault):
    name = "keep_request"
    bug = "the inode still counts a request that is gone"
    caught_by = ("audit",)
    classes = (19,)


class KeepCommitAccounting(SiteFault):
    name = "keep_commit_accounting"
    bug = "a page that is written again before its COMMIT counts as uncommitted for ever"
    caught_by = ("audit",)
    classes = (20,)


NFS_GALLERY: tuple[type[SiteFault], ...] = (LeakSubrequest, LeakName, KeepPrivate, KeepRequest, KeepCommitAccounting)
