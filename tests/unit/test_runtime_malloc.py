"""The allocator is told once, and only where it listens."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

from freepage_runtime import malloc


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc has these settings")
def test_glibc_accepts_every_setting() -> None:
    """In a process of its own: the settings last as long as the process."""
    code = "from freepage_runtime.malloc import keep_large_blocks; raise SystemExit(not keep_large_blocks())"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc has these settings")
def test_threads_have_no_arenas_of_their_own() -> None:
    code = """
import ctypes, threading
from freepage_runtime.malloc import keep_large_blocks
keep_large_blocks()
both = threading.Barrier(2)
threads = [threading.Thread(target=lambda: (bytes(1 << 20), both.wait())) for _ in range(2)]
for thread in threads: thread.start()
for thread in threads: thread.join()
libc = ctypes.CDLL(None)
libc.malloc_info(0, ctypes.c_void_p.in_dll(libc, "stdout"))
libc.fflush(None)
"""
    told = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert told.count("<heap nr=") == 1


def test_elsewhere_nothing_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    assert malloc.keep_large_blocks() is False


def test_daemons_that_we_start_ask_for_huge_pages_unless_the_user_decided() -> None:
    asked = malloc.huge_pages_environment({"HOME": "/"})
    assert asked == {"HOME": "/", "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"}
    both = malloc.huge_pages_environment({"GLIBC_TUNABLES": "glibc.malloc.check=0"})
    assert both["GLIBC_TUNABLES"] == "glibc.malloc.check=0:glibc.malloc.hugetlb=1"
    refused = {"GLIBC_TUNABLES": "glibc.malloc.hugetlb=0"}
    assert malloc.huge_pages_environment(refused) == refused
