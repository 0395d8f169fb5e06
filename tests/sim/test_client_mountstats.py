"""mountstats: the kernel's format, checked by the kernel's own tools, and its figures by the recordings."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

from prometheus_client import Metric

from freepage_client.io import metrics as client_metrics
from freepage_client.nfs.mountstats import render_mountstats
from freepage_lab.sim.world import World, run_world


def _sample() -> str:
    return _samples()[0]


def _samples() -> tuple[str, list[Metric]]:
    """One mount after some work: its mountstats, and its metrics of the same moment."""

    async def story(world: World) -> tuple[str, list[Metric]]:
        machine = await world.client("A", "rsize=65536,noac")
        task = machine.task()
        fd = await task.open("/mnt/f", os.O_RDWR | os.O_CREAT)
        await task.write(fd, b"x" * 200_000)
        await task.fsync(fd)
        await machine.drop_caches(1)
        await task.pread(fd, 200_000, 0)
        await task.close(fd)
        await task.exit()
        await world.clock.sleep(60)
        now_s = world.clock.now()
        return render_mountstats(machine.mounts, now_s), list(client_metrics.mountstats(machine.mounts, now_s))

    return run_world(story)


def test_the_counts_that_parsers_insist_on() -> None:
    lines = _sample().splitlines()
    fields = {line.split(":")[0].strip(): line.partition(":")[2].split() for line in lines if ":" in line}
    assert lines[0] == "device server:/export mounted on /mnt with fstype nfs statvers=1.1"
    assert len(fields["events"]) == 27
    assert len(fields["bytes"]) == 8
    assert fields["xprt"][0] == "tcp" and len(fields["xprt"]) == 14
    assert fields["NULL"] == ["1", "1", "0", "44", "24", "0", "0", "0", "0"]
    assert fields["age"] == ["60"]
    assert "acregmin=0" in fields["opts"][0] and ",sync," in fields["opts"][0] and "noac" in fields["opts"][0]
    operations = lines[lines.index("\tper-op statistics") + 1 :]
    assert [line.split(":")[0].strip() for line in operations if line][-1] == "COMMIT"
    assert all(len(line.split()) == 10 for line in operations if line)


def test_mountstats_reads_it(tmp_path: Path, require_tool: Callable[..., str]) -> None:
    tool = require_tool("mountstats", debian="nfs-common")
    file = tmp_path / "mountstats"
    file.write_text(_sample())
    done = subprocess.run([tool, "mountstats", "-f", str(file)], capture_output=True, text=True, check=True)
    assert "Stats for server:/export mounted on /mnt:" in done.stdout
    assert "applications read 200000 bytes via read(2)" in done.stdout
    assert "applications wrote 200000 bytes via write(2)" in done.stdout
    assert "WRITE:" in done.stdout and "COMMIT:" not in done.stdout.split("WRITE:")[0]


# What node_exporter's mountstats collector makes of each number, by its place in the line.
AGE = ("age_seconds",)
BYTES = (
    "read_bytes", "write_bytes", "direct_read_bytes", "direct_write_bytes", "total_read_bytes", "total_write_bytes",
    "read_pages", "write_pages",
)  # fmt: skip
EVENTS = (
    "event_inode_revalidate", "event_dnode_revalidate", "event_data_invalidate", "event_attribute_invalidate",
    "event_vfs_open", "event_vfs_lookup", "event_vfs_access", "event_vfs_update_page", "event_vfs_read_page",
    "event_vfs_read_pages", "event_vfs_write_page", "event_vfs_write_pages", "event_vfs_getdents",
    "event_vfs_setattr", "event_vfs_flush", "event_vfs_fsync", "event_vfs_lock", "event_vfs_file_release", None,
    "event_truncation", "event_write_extension", "event_silly_rename", "event_short_read", "event_short_write",
    "event_jukebox_delay", "event_pnfs_read", "event_pnfs_write",
)  # fmt: skip
XPRT = (
    None, None, "transport_bind", "transport_connect", None, "transport_idle_time_seconds", "transport_sends",
    "transport_receives", "transport_bad_transaction_ids", None, "transport_backlog_queue",
    "transport_maximum_rpc_slots", "transport_sending_queue", "transport_pending_queue",
)  # fmt: skip
OPERATION = (
    "operations_requests", "operations_transmissions", "operations_major_timeouts", "operations_sent_bytes",
    "operations_received_bytes", "operations_queue_time_seconds", "operations_response_time_seconds",
    "operations_request_time_seconds", "operations_errors",
)  # fmt: skip
GAUGES = {"transport_idle_time_seconds", "transport_maximum_rpc_slots"}


def test_the_metrics_of_node_exporter_are_the_numbers_of_mountstats() -> None:
    """Every number of the file under the name, type and labels that node_exporter gives it, and no other series."""
    text, metrics = _samples()
    of_mount = {"export": "server:/export", "protocol": "tcp", "mountaddr": "server"}
    expected: dict[tuple[str, frozenset[tuple[str, str]]], float] = {}

    def expect(names: tuple[str | None, ...], words: list[str], **labels: str) -> None:
        for name, word in zip(names, words, strict=True):
            if name is not None:
                sample = f"node_mountstats_nfs_{name}{'' if name in GAUGES else '_total'}"
                expected[sample, frozenset({**of_mount, **labels}.items())] = float(word)

    for line in text.splitlines():
        heading, colon, rest = line.strip().partition(":")
        words = rest.split()
        if heading == "age":
            expect(AGE, words)
        elif heading == "bytes":
            expect(BYTES, words)
        elif heading == "events":
            expect(EVENTS, words)
        elif heading == "xprt":
            expect(XPRT, words, transport="0")
        elif colon and heading.isupper():
            expect(OPERATION, words, operation=heading)
    expected["node_mountstats_nfs_mountpoint_info", frozenset({**of_mount, "mountpoint": "/mnt"}.items())] = 1.0

    found = {
        (sample.name, frozenset(sample.labels.items())): sample.value for metric in metrics for sample in metric.samples
    }
    assert found.keys() == expected.keys()
    for key, value in found.items():
        name = key[0]
        assert (round(value * 1000) if "_time_seconds" in name else int(value)) == expected[key], key
    assert found["node_mountstats_nfs_read_bytes_total", frozenset(of_mount.items())] == 200_000
