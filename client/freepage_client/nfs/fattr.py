"""A reply's attributes as the client weighs them: values, when they were asked for, and in which order (nfs_fattr)."""

from __future__ import annotations

from freepage_proto.nfs3 import Fattr3, WccAttr, WccData


def change_attribute(ctime_ns: int) -> int:
    """NFSv3 has no change attribute: the client makes one from ctime (nfs_timespec_to_change_attr)."""
    seconds, nanoseconds = divmod(ctime_ns, 1_000_000_000)
    return (seconds << 30) + nanoseconds


class NfsFattr:
    """Attributes from one reply. ``attr`` is None when the reply carried none, ``pre`` when it had no pre-op part.

    ``time_start`` (jiffies) and ``gencount`` are taken when the *request* is prepared: a reply may be overtaken by
    another one's, and only those newer than the inode's last update may change it.
    """

    __slots__ = (
        "attr",
        "gencount",
        "pre_change",
        "pre_ctime_ns",
        "pre_mtime_ns",
        "pre_size",
        "size_valid",
        "time_start",
    )

    def __init__(self, time_start: int, gencount: int) -> None:
        self.time_start = time_start
        self.gencount = gencount
        self.attr: Fattr3 | None = None
        self.pre_change: int | None = None
        self.pre_ctime_ns: int | None = None
        self.pre_mtime_ns: int | None = None
        self.pre_size: int | None = None
        self.size_valid = True
        """False: the size is older than what this client still has to write."""

    def set_wcc(self, wcc: WccData) -> None:
        self.attr = wcc.after
        if wcc.before is not None:
            self.set_pre(wcc.before)

    def set_pre(self, before: WccAttr) -> None:
        self.pre_change = change_attribute(before.ctime_ns)
        self.pre_ctime_ns = before.ctime_ns
        self.pre_mtime_ns = before.mtime_ns
        self.pre_size = before.size

    def clear_pre(self) -> None:
        self.pre_change = self.pre_ctime_ns = self.pre_mtime_ns = self.pre_size = None

    @property
    def change(self) -> int | None:
        return None if self.attr is None else change_attribute(self.attr.ctime_ns)
