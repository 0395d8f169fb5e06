"""A program on the server whose path ends in no name: what Linux 6.1 answered on ext4 (asked call for call)."""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from freepage_server.nfsd.local import LocalTask
from nfsd_rig import KINDS, Rig

CALLS: dict[str, Callable[[LocalTask, str], Awaitable[object]]] = {
    "unlink": lambda task, path: task.unlink(path),
    "rmdir": lambda task, path: task.rmdir(path),
    "open": lambda task, path: task.open(path, os.O_RDWR | os.O_CREAT),
    "open O_EXCL": lambda task, path: task.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL),
    "rename to": lambda task, path: task.rename("f", path),
    "rename": lambda task, path: task.rename(path, "x"),
    "mkdir": lambda task, path: task.mkdir(path),
    "symlink": lambda task, path: task.symlink("f", path),
    "link": lambda task, path: task.link("f", path),
}
A_DIRECTORY = ["EISDIR", "EINVAL", "EISDIR", "EEXIST", "EBUSY", "EBUSY", "EEXIST", "EEXIST", "EEXIST"]
ANSWERS = {
    "/": ["EISDIR", "ENOTEMPTY", "EISDIR", "EEXIST", "ENOTEMPTY", "EINVAL", "EEXIST", "EEXIST", "EEXIST"],
    "d/.": A_DIRECTORY,
    "d/./": A_DIRECTORY,
    "d/..": ["EISDIR", "ENOTEMPTY", *A_DIRECTORY[2:]],
    "f/.": ["ENOTDIR"] * len(CALLS),
    "f/..": ["ENOTDIR"] * len(CALLS),
    "nope/.": ["ENOENT"] * len(CALLS),
    "nope/..": ["ENOENT"] * len(CALLS),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("path", ANSWERS)
def test_a_path_that_ends_in_no_name(path: str, kind: str, tmp_path: Path) -> None:
    async def story() -> None:
        rig = Rig(kind, tmp_path)
        task = rig.task
        await task.close(await task.open("f", os.O_RDWR | os.O_CREAT))
        await task.mkdir("d")
        answers = []
        for call in CALLS.values():
            with pytest.raises(OSError) as failure:
                await call(task, path)
            assert failure.value.errno is not None
            answers.append(errno.errorcode[failure.value.errno])
        assert dict(zip(CALLS, answers, strict=True)) == dict(zip(CALLS, ANSWERS[path], strict=True))
        assert sorted(await task.listdir("/")) == [b"d", b"f"]
        rig.close()

    asyncio.run(story())
