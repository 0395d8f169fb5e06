"""What ``-o`` may say of a FUSE mount: nfs(5)'s options, mount(8)'s for every file system, and a few of our own."""

from __future__ import annotations

from dataclasses import dataclass

from freepage_client.nfs.options import BadMountOption, parse_mount_options
from freepage_runtime.errors import SettingError
from freepage_runtime.settings import parse_size

_TO_KERNEL = frozenset(("suid", "nosuid", "dev", "nodev", "exec", "noexec", "dirsync"))
"""Handed on to mount(2)."""

_OF_FSTAB = frozenset(("auto", "noauto", "_netdev", "nofail", "user", "nouser", "users", "owner", "group"))
"""For mount(8) and its relatives; nothing to us."""


@dataclass(frozen=True, slots=True)
class FuseOptions:
    """``nfs`` is for the NFS client, ``kernel`` for fusermount3.

    ``allow_other``: users other than the one who mounts may use it. ``mmap``: through the kernel's page cache.
    ``virtual``: with the directory .freepage. ``cache_bytes`` and ``name`` None: as the command line says.
    """

    nfs: str = ""
    kernel: tuple[str, ...] = ()
    allow_other: bool | None = None
    mmap: bool = False
    virtual: bool = True
    cache_bytes: int | None = None
    name: str | None = None


def parse_fuse_options(text: str) -> FuseOptions:
    """Raises SettingError."""
    nfs: list[str] = []
    kernel: list[str] = []
    own: dict[str, object] = {}
    for item in (part.strip() for part in text.split(",")):
        key, _, value = item.partition("=")
        if item in _TO_KERNEL:
            kernel.append(item)
        elif item in _OF_FSTAB or key.startswith(("x-", "comment")) or not item:
            continue
        elif item == "allow_other":
            own["allow_other"] = True
        elif item == "mmap":
            own["mmap"] = True
        elif item in ("freepage", "nofreepage"):
            own["virtual"] = item == "freepage"
        elif key == "cache" and value:
            own["cache_bytes"] = parse_size(value)
        elif key == "name" and value:
            own["name"] = value
        else:
            nfs.append(item)
    try:
        if parse_mount_options(",".join(nfs)).read_only:
            kernel.append("ro")
    except BadMountOption as error:
        raise SettingError(str(error)) from error
    return FuseOptions(nfs=",".join(nfs), kernel=tuple(kernel), **own)  # type: ignore[arg-type]
