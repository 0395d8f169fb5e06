"""The daemon behind a mount point, with what the command line said about it."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path

from freepage_client.io.daemon import ClientSettings, MountSetting
from freepage_client.io.fuse.daemon import FuseSettings, run_mount
from freepage_client.io.fuse.options import FuseOptions


@dataclass(frozen=True, kw_only=True, slots=True)
class MountRequest:
    """``freepage mount SOURCE DIR``; ``client`` has everything but the mount and the name.

    ``allow_other`` None: as ``options`` say, else when root mounts. ``ready_fd``: we are in the background.
    """

    source: str
    directory: str
    options: FuseOptions
    allow_other: bool | None
    client: ClientSettings
    debug: bool
    ready_fd: int | None


def mount(request: MountRequest) -> int:
    """Mount, and serve until unmounted; returns the exit code. Raises UserError."""
    fuse = request.options
    is_root = os.getuid() == 0
    allow_other = next((wish for wish in (request.allow_other, fuse.allow_other) if wish is not None), is_root)
    kernel = list(fuse.kernel)
    if is_root:  # as mount -t nfs does; fusermount3 gives others nosuid and nodev
        kernel = [*(word for word in ("suid", "dev") if f"no{word}" not in kernel), *kernel]
    if allow_other:
        kernel.append("allow_other")
    client = replace(
        request.client,
        name=fuse.name or request.client.name or f"{Path(request.directory).name or 'root'}-{os.getpid()}",
        mounts=(MountSetting(source=request.source, mountpoint=request.directory, options=fuse.nfs),),
        memory_bytes=request.client.memory_bytes if fuse.cache_bytes is None else fuse.cache_bytes,
        ready_fd=request.ready_fd,
        say_ready=False,
    )
    settings = FuseSettings(
        client=client,
        kernel=tuple(kernel),
        mmap=fuse.mmap,
        virtual=fuse.virtual,
        debug=request.debug,
        detach=request.ready_fd is not None and not request.debug,
    )
    return run_mount(settings)
