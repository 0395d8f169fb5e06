"""Mount options of nfs(5), with Linux 6.1's defaults, clamping and complaints (fs/nfs/fs_context.c, client.c)."""

from __future__ import annotations

from dataclasses import dataclass, replace

NFS_MIN_FILE_IO_SIZE = 1024
NFS_DEF_FILE_IO_SIZE = 4096
NFS_MAX_FILE_IO_SIZE = 1 << 20
PAGE_SIZE = 4096


class BadMountOption(ValueError):
    """A mount option that mount.nfs would refuse; the message says which and why."""


@dataclass(frozen=True, slots=True)
class MountOptions:
    """What ``mount -t nfs -o`` asked for. Times in seconds, sizes in bytes, ``timeo_ds`` in tenths of a second.

    ``rsize`` and ``wsize`` 0 mean: what the server prefers. ``read_ahead_kb`` is the mount's backing device setting,
    which Linux takes from sysfs and freepage also as an option.
    """

    rsize: int = 0
    wsize: int = 0
    acregmin_s: int = 3
    acregmax_s: int = 60
    acdirmin_s: int = 30
    acdirmax_s: int = 60
    noac: bool = False
    sync: bool = False
    cto: bool = True
    lookupcache: str = "all"
    rdirplus: bool = True
    acl: bool = True
    soft: bool = False
    softerr: bool = False
    softreval: bool = False
    timeo_ds: int = 600
    retrans: int = 2
    nolock: bool = False
    local_flock: bool = False
    local_fcntl: bool = False
    sharecache: bool = True
    read_only: bool = False
    noatime: bool = False
    nodiratime: bool = False
    write_policy: str = "lazy"
    namlen: int = 0
    read_ahead_kb: int = 128

    @property
    def neg_dentries_trusted(self) -> bool:
        return self.lookupcache == "all"


_FLAGS: dict[str, dict[str, object]] = {
    "rw": {"read_only": False},
    "ro": {"read_only": True},
    "cto": {"cto": True},
    "nocto": {"cto": False},
    "sync": {"sync": True},
    "async": {"sync": False},
    "ac": {"noac": False},
    "noac": {"noac": True},
    "rdirplus": {"rdirplus": True},
    "nordirplus": {"rdirplus": False},
    "acl": {"acl": True},
    "noacl": {"acl": False},
    "hard": {"soft": False, "softerr": False, "softreval": False},
    "soft": {"soft": True, "softerr": False},
    "softerr": {"softerr": True, "softreval": True, "soft": False},
    "softreval": {"softreval": True},
    "nosoftreval": {"softreval": False},
    "lock": {"nolock": False, "local_flock": False, "local_fcntl": False},
    "nolock": {"nolock": True, "local_flock": True, "local_fcntl": True},
    "sharecache": {"sharecache": True},
    "nosharecache": {"sharecache": False},
    "atime": {"noatime": False},
    "noatime": {"noatime": True},
    "relatime": {"noatime": False},
    "diratime": {"nodiratime": False},
    "nodiratime": {"nodiratime": True},
    "tcp": {},
    "nfsvers=3": {},
    "vers=3": {},
    "v3": {},
    "defaults": {},
    "resvport": {},
    "noresvport": {},
    "fg": {},
    "bg": {},
    "intr": {},
    "nointr": {},
    "posix": {},
    "noposix": {},
    "nofsc": {},
    "migration": {},
    "nomigration": {},
    "trunkdiscovery": {},
    "notrunkdiscovery": {},
}

_NUMBERS = {
    "rsize": ("rsize",),
    "wsize": ("wsize",),
    "acregmin": ("acregmin_s",),
    "acregmax": ("acregmax_s",),
    "acdirmin": ("acdirmin_s",),
    "acdirmax": ("acdirmax_s",),
    "actimeo": ("acregmin_s", "acregmax_s", "acdirmin_s", "acdirmax_s"),
    "timeo": ("timeo_ds",),
    "retrans": ("retrans",),
    "namlen": ("namlen",),
    "read_ahead_kb": ("read_ahead_kb",),
}

_LOCAL_LOCK: dict[str, dict[str, object]] = {
    "all": {"local_flock": True, "local_fcntl": True},
    "flock": {"local_flock": True},
    "posix": {"local_fcntl": True},
    "none": {"local_flock": False, "local_fcntl": False},
}
"""Each but ``none`` adds to what was local before: after ``nolock``, ``local_lock=posix`` changes nothing."""

_ACCEPTED = {
    "proto": {"tcp"},
    "vers": {"3"},
    "nfsvers": {"3"},
    "sec": {"sys"},
    "mountproto": {"tcp"},
    "mountvers": {"3"},
    "nconnect": {"1"},
}


def parse_mount_options(text: str) -> MountOptions:
    """Parse a comma-separated option string; later options win. Raises BadMountOption."""
    options = MountOptions()
    for item in (part.strip() for part in text.split(",")):
        if item:
            options = replace(options, **_parse_one(item))  # type: ignore[arg-type]
    # The superblock is synchronous whenever noac is in force at the end, whatever sync and async said.
    return replace(options, sync=True) if options.noac else options


def _parse_one(item: str) -> dict[str, object]:
    if item in _FLAGS:
        return _FLAGS[item]
    key, equals, value = item.partition("=")
    if not equals:
        raise BadMountOption(f"unknown mount option '{item}'")
    if key in _NUMBERS:
        return dict.fromkeys(_NUMBERS[key], _number(key, value))
    if key in _ACCEPTED:
        if value not in _ACCEPTED[key]:
            offered = ", ".join(sorted(_ACCEPTED[key]))
            raise BadMountOption(f"mount option '{item}' is not emulated; use {key}={offered}")
        return {}
    if key == "lookupcache":
        if value not in ("all", "pos", "positive", "none"):
            raise BadMountOption(f"bad value in '{item}': lookupcache is all, pos or none")
        return {"lookupcache": "pos" if value == "positive" else value}
    if key == "local_lock":
        if value not in _LOCAL_LOCK:
            raise BadMountOption(f"bad value in '{item}': local_lock is all, flock, posix or none")
        return _LOCAL_LOCK[value]
    if key == "write":
        if value not in ("lazy", "eager", "wait"):
            raise BadMountOption(f"bad value in '{item}': write is lazy, eager or wait")
        return {"write_policy": value}
    if key in ("port", "mountport"):
        if _number(key, value) > 0xFFFF:
            raise BadMountOption(f"NFS: Value for '{key}' out of range")
        return {}  # where the server listens is the network's business here
    if key in ("addr", "mountaddr", "mounthost", "clientaddr", "retry"):
        return {}
    raise BadMountOption(f"unknown mount option '{key}'")


def _number(key: str, value: str) -> int:
    if not (value.isascii() and value.isdigit()):
        raise BadMountOption(f"bad value in '{key}={value}': a whole number is needed")
    number = int(value)
    largest = 0x7FFFFFFF if key in ("timeo", "retrans") else 0xFFFFFFFF
    if number > largest or (key == "timeo" and number < 1):
        raise BadMountOption(f"NFS: Value for '{key}' out of range")
    return number


def io_size(wanted: int) -> int:
    """Clamp an rsize or wsize in bytes as nfs_io_size does: 1 KiB .. 1 MiB, whole pages or a power of two."""
    if wanted < NFS_MIN_FILE_IO_SIZE:
        wanted = NFS_DEF_FILE_IO_SIZE
    wanted = min(wanted, NFS_MAX_FILE_IO_SIZE)
    return power_of_two_below(wanted) if wanted < PAGE_SIZE else wanted & ~(PAGE_SIZE - 1)


def block_size(wanted: int) -> int:
    """Clamp to 1 KiB .. 1 MiB and round down to a power of two (nfs_block_size)."""
    if wanted < NFS_MIN_FILE_IO_SIZE:
        wanted = NFS_DEF_FILE_IO_SIZE
    return power_of_two_below(min(wanted, NFS_MAX_FILE_IO_SIZE))


def power_of_two_below(n: int) -> int:
    """The largest power of two not above ``n``; 0 for 0."""
    return 1 << (n.bit_length() - 1) if n else 0
