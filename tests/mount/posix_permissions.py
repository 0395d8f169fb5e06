"""Who may do what."""

from __future__ import annotations

import errno
import os
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path

from posix_rig import GROUP, OTHER_GROUP, USER, as_user, fails, make, root_check


@root_check
def permissions(d: Path) -> None:
    os.chmod(d, 0o755)
    make(d / "secret", b"x", 0o600)
    make(d / "public", b"x", 0o644)
    (d / "closed").mkdir(0o700)

    def user() -> None:
        with fails(errno.EACCES):
            os.open(d / "secret", os.O_RDONLY)
        assert (d / "public").read_bytes() == b"x"
        with fails(errno.EACCES):
            os.open(d / "public", os.O_WRONLY)
        with fails(errno.EACCES):
            os.truncate(d / "public", 0)
        makers: tuple[Callable[[Path], object], ...] = (
            os.mkdir,
            os.mkfifo,
            lambda p: os.symlink("x", p),
            lambda p: os.link(d / "public", p),
        )
        for maker in makers:
            with fails(errno.EACCES, errno.EPERM):
                maker(d / "new")
        with fails(errno.EACCES):
            os.unlink(d / "public")
        with fails(errno.EACCES):
            os.rename(d / "public", d / "other")
        with fails(errno.EACCES):
            os.listdir(d / "closed")
        with fails(errno.EACCES):
            os.stat(d / "closed" / "x")
        with fails(errno.EACCES):
            os.chdir(d / "closed")
        with fails(errno.EPERM):
            os.chmod(d / "public", 0o777)
        with fails(errno.EPERM):
            os.chown(d / "public", USER, -1)
        with fails(errno.EPERM):
            os.utime(d / "public", ns=(1, 1))
        with fails(errno.EACCES, errno.EPERM):
            os.utime(d / "public")
        assert os.access(d / "public", os.R_OK) and not os.access(d / "public", os.W_OK)

    as_user(user)
    os.chmod(d / "public", 0o666)
    as_user(lambda: os.utime(d / "public"))
    assert os.access(d / "secret", os.R_OK | os.W_OK) and not os.access(d / "secret", os.X_OK)


@root_check
def supplementary_groups(d: Path) -> None:
    os.chmod(d, 0o755)
    make(d / "f", b"x", 0o640)
    os.chown(d / "f", 0, OTHER_GROUP)

    def denied() -> None:
        with fails(errno.EACCES):
            os.open(d / "f", os.O_RDONLY)

    as_user(denied)
    as_user(lambda: (d / "f").read_bytes(), groups=(OTHER_GROUP,))
    as_user(denied, groups=(5, 6))

    def changing() -> None:
        for groups, allowed in (((OTHER_GROUP,), True), ((), False), ((7, OTHER_GROUP), True)):
            os.setgroups(groups)
            os.setegid(GROUP)
            os.seteuid(USER)
            try:
                if allowed:
                    (d / "f").read_bytes()
                else:
                    denied()
            finally:
                os.seteuid(0)

    as_user(changing, 0, 0)


@root_check
def only_execute(d: Path) -> None:
    os.chmod(d, 0o755)
    subprocess.run(["cp", "/bin/true", d / "x"], check=True)
    os.chmod(d / "x", 0o711)

    def user() -> None:
        with fails(errno.EACCES):
            os.open(d / "x", os.O_RDONLY)
        subprocess.run([d / "x"], check=True)

    as_user(user)


@root_check
def sticky_directories(d: Path) -> None:
    os.chmod(d, 0o1777)
    make(d / "roots", mode=0o666)
    as_user(lambda: make(d / "theirs"))

    def user() -> None:
        with fails(errno.EPERM, errno.EACCES):
            os.unlink(d / "roots")
        with fails(errno.EPERM, errno.EACCES):
            os.rename(d / "roots", d / "x")
        with fails(errno.EPERM, errno.EACCES):
            os.rename(d / "theirs", d / "roots")
        os.rename(d / "theirs", d / "mine")
        os.unlink(d / "mine")

    as_user(user)


@root_check
def set_group_id(d: Path) -> None:
    os.chown(d, 0, OTHER_GROUP)
    os.chmod(d, 0o2777)
    make(d / "f")
    os.mkdir(d / "x")
    assert os.stat(d / "f").st_gid == OTHER_GROUP
    assert os.stat(d / "x").st_gid == OTHER_GROUP and os.stat(d / "x").st_mode & stat.S_ISGID

    def user() -> None:
        fd = os.open(d / "g", os.O_CREAT | os.O_WRONLY, 0o2775)
        os.close(fd)
        assert os.stat(d / "g").st_gid == OTHER_GROUP
        os.chmod(d / "g", 0o2775)
        assert not os.stat(d / "g").st_mode & stat.S_ISGID, "set-group-id for a group the caller is not in"

    as_user(user)


@root_check
def writing_clears_set_id_bits(d: Path) -> None:
    os.chmod(d, 0o777)
    make(d / "f", b"x", 0o666)
    os.chmod(d / "f", 0o6777)

    def user() -> None:
        fd = os.open(d / "f", os.O_WRONLY)
        os.write(fd, b"y")
        os.close(fd)

    as_user(user)
    assert stat.S_IMODE(os.stat(d / "f").st_mode) == 0o777
    os.chmod(d / "f", 0o6777)
    os.chown(d / "f", USER, GROUP)
    as_user(lambda: os.chown(d / "f", -1, GROUP))
    assert not os.stat(d / "f").st_mode & (stat.S_ISUID | stat.S_ISGID)

    # Without the group's execute bit, set-group-id stays for writers of that group alone.
    os.chown(d / "f", 0, OTHER_GROUP)
    for groups, kept in ((), 0), ((OTHER_GROUP,), stat.S_ISGID):
        os.chmod(d / "f", 0o2666)
        as_user(lambda: (d / "f").write_bytes(b"z"), groups=groups)
        assert os.stat(d / "f").st_mode & stat.S_ISGID == kept, groups


@root_check
def owner_changes(d: Path) -> None:
    make(d / "f")
    os.chown(d / "f", USER, GROUP)
    status = os.stat(d / "f")
    assert (status.st_uid, status.st_gid) == (USER, GROUP)
    os.symlink("f", d / "l")
    os.lchown(d / "l", 1, 2)
    assert (os.lstat(d / "l").st_uid, os.stat(d / "f").st_uid) == (1, USER)

    def user() -> None:
        with fails(errno.EPERM):
            os.chown(d / "f", 0, -1)
        with fails(errno.EPERM):
            os.chown(d / "f", -1, OTHER_GROUP)
        os.chmod(d / "f", 0o640)

    os.chmod(d, 0o755)
    as_user(user)
    as_user(lambda: os.chown(d / "f", -1, OTHER_GROUP), groups=(OTHER_GROUP,))
    assert os.stat(d / "f").st_gid == OTHER_GROUP
    as_user(lambda: os.chown(d / "f", USER, OTHER_GROUP))  # the file has that group, though its owner no longer does
