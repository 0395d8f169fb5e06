"""The status page in a real browser, on a real client with a hostile name that leaks."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from html import unescape

import pytest

from daemon_rig import DaemonProcess, client, server

HOSTILE = "<img src=x onerror=document.title='owned'>&c1"
BROWSER_S = 60
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update", "--disable-dev-shm-usage",
    "--enable-logging=stderr", "--virtual-time-budget=5000",
)  # fmt: skip


@pytest.fixture(scope="module")
def leaking(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DaemonProcess]:
    """A client that has dropped its pages without the hook."""
    export = tmp_path_factory.mktemp("export")
    (export / "file").write_bytes(b"x" * 40960)
    with server(export) as nfsd, client(nfsd.wait_ready(), "--hook", "drop=skip", name=HOSTILE) as host:
        host.wait_ready()
        control = ["--address", host.control]
        freepage("load", "random", "--operations", "40", "--workers", "1", "--seed", "1", "--keep", *control)
        freepage("ctl", "drop-caches", "1", *control)
        yield host
        assert host.stop() == 0


def freepage(*arguments: str) -> None:
    command = [sys.executable, "-m", "freepage_lab.cli", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=BROWSER_S, check=False)
    assert done.returncode == 0, done.stderr


def browse(chromium: str, url: str) -> tuple[str, str]:
    """The page's DOM after its script has run, and what the browser had to say."""
    with tempfile.TemporaryDirectory() as profile:
        command = [chromium, *FLAGS, f"--user-data-dir={profile}", "--dump-dom", url]
        done = subprocess.run(command, capture_output=True, text=True, timeout=BROWSER_S, check=True)
        time.sleep(0.2)  # its helper processes end after it, and write into the directory until then
    return done.stdout, done.stderr


def test_the_browser_shows_what_the_process_says(leaking: DaemonProcess, require_tool: Callable[..., str]) -> None:
    chromium = require_tool("chromium", debian="chromium")
    dom, said = browse(chromium, f"http://{leaking.ready['metrics']}/")
    text = unescape(re.sub(r"<[^>]*>", " ", dom.partition("<main>")[2]))
    shown = HOSTILE.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    assert f"<title>{shown} · freepage client</title>" in dom
    assert "onerror" not in dom.replace(shown, "")
    found = re.search(r"drop\s+skip\s+([\d,]+)\s+0\s+([\d,]+)", text)
    assert found is not None, text
    leaked = int(found[1].replace(",", ""))
    assert leaked > 0
    assert len(re.findall(r"<svg", dom)) == 6
    assert len(re.findall(r"<polygon|<path d=", dom)) >= 3, "charts without curves"
    assert re.search(r'class="card tile bad"><div class="label">orphaned objects', dom)
    for link in ("/metrics", "/audit", "/proc/self/mountstats", "/sys/kernel/debug/kmemleak"):
        assert f'<a href="{link}">' in dom
    assert "Refused" not in said
    assert "Content Security Policy" not in said


def test_every_link_of_the_page_answers(leaking: DaemonProcess) -> None:
    links = json.loads(leaking.page("/api/status"))["links"]
    assert {"/metrics", "/healthz", "/proc/meminfo", "/proc/slabinfo", "/proc/vmstat", "/audit"} <= set(links)
    for link in links:
        with urllib.request.urlopen(f"http://{leaking.ready['metrics']}{link}") as answer:
            assert answer.read()
    assert "lost on drop" in leaking.page("/audit")
    assert leaking.page("/sys/kernel/debug/kmemleak").startswith("unreferenced object 0x")
