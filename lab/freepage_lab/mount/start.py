"""What ``freepage mount`` does before there is a daemon: look the places over, and start it in the background."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from freepage_client.io.fuse import device
from freepage_runtime.errors import SettingError
from freepage_runtime.malloc import huge_pages_environment


def check(source: str, directory: str) -> str:
    """The mount point as an absolute path without symbolic links. Raises SettingError, or that FUSE is missing."""
    device.require_fuse()
    server, colon, _ = source.partition(":/")
    if not server or not colon:
        raise SettingError(f"not a server's export: {source!r} (write it like 127.0.0.1:2049:/export)")
    try:
        path = Path(directory).resolve(strict=True)
    except OSError as error:
        if error.errno == errno.ENOTCONN:
            raise SettingError(f"{directory}: a dead mount is in the way (freepage umount {directory})") from error
        raise SettingError(f"cannot mount on {directory}: {error.strerror}") from error
    if not path.is_dir():
        raise SettingError(f"cannot mount on {directory}: it is no directory")
    if (
        device.mounted_on(str(path)) == device.FSTYPE
    ):  # EBUSY of the same file system on the same mount point (do_add_mount)
        raise SettingError(f"cannot mount on {directory}: it is mounted already (freepage umount {directory})")
    return str(path)


def in_background(arguments: Sequence[str]) -> int:
    """Start ourselves again in a session of our own, and wait until that one has mounted or ended."""
    reads, writes = os.pipe()
    with os.fdopen(reads, "rb") as pipe:
        try:
            own = ("--foreground", "--ready-fd", str(writes))
            process = subprocess.Popen(
                [sys.executable, "-m", "freepage_lab.cli", arguments[0], *own, *arguments[1:]],
                pass_fds=(writes,),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                start_new_session=True,
                env=huge_pages_environment(),
            )
        finally:
            os.close(writes)
        if pipe.readline().endswith(b"\n"):
            process.returncode = 0  # it goes on without us
            return 0
    return process.wait() or 1


def mount_helper() -> None:
    """``mount.freepage SOURCE DIR [-sfnv] [-N NAMESPACE] [-t TYPE] [-o OPTIONS]`` (mount(8), external helpers)."""
    from freepage_lab.cli import main

    places: list[str] = []
    options: list[str] = []
    arguments = iter(sys.argv[1:])
    for word in arguments:
        if word in ("-o", "-t", "-N"):
            value = next(arguments, "")
            if word == "-o":
                options += ["-o", value]
        elif not word.startswith("-"):
            places.append(word)
        elif "f" in word:  # a rehearsal
            raise SystemExit(0)
    main(["mount", *options, "--", *places])
