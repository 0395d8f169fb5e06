"""Everyday programs' habits."""

from __future__ import annotations

import mmap
import os
import tempfile
import threading
from pathlib import Path

from posix_rig import check, in_child, make


@check
def a_directory_goes_although_a_closed_file_of_it_is_not_quite_gone(d: Path) -> None:
    os.mkdir(d / "x")
    fd = os.open(make(d / "x" / "f", b"z" * 5000), os.O_RDWR)
    area = mmap.mmap(fd, 5000, mmap.MAP_PRIVATE)  # as reads ahead of page faults do, it delays what close(2) has to do
    os.close(fd)
    os.unlink(d / "x" / "f")
    unmap = threading.Timer(0.05, area.close)
    unmap.start()
    os.rmdir(d / "x")
    unmap.join()


@check
def temporary_files(d: Path) -> None:
    with tempfile.TemporaryFile(dir=d) as f:
        f.write(b"x" * 100_000)
        f.seek(0)
        assert f.read() == b"x" * 100_000
    with tempfile.NamedTemporaryFile(dir=d) as f:
        f.write(b"y")
        f.flush()
        assert Path(f.name).read_bytes() == b"y"
    assert [name for name in os.listdir(d) if not name.startswith(".nfs")] == []


@check
def many_threads(d: Path) -> None:
    failures: list[BaseException] = []

    def work(number: int) -> None:
        try:
            mine = d / f"t{number}"
            mine.mkdir()
            for i in range(10):
                (mine / f"{i}").write_bytes(bytes([number]) * (i * 500))
            for i in range(10):
                assert (mine / f"{i}").read_bytes() == bytes([number]) * (i * 500)
                os.rename(mine / f"{i}", mine / f"r{i}")
            for i in range(10):
                os.unlink(mine / f"r{i}")
            mine.rmdir()
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures, failures
    assert os.listdir(d) == []


@check
def current_directory(d: Path) -> None:
    def child() -> None:
        (d / "x").mkdir()
        os.chdir(d / "x")
        Path("f").write_text("here")
        os.rename(d / "x", d / "y")
        assert Path("f").read_text() == "here"
        assert os.getcwd() == str(d / "y")
        os.mkdir("sub")
        os.chdir("sub")
        assert Path("../f").read_text() == "here"

    in_child(child)
