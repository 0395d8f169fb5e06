"""mountstats: the kernel's format, checked by the kernel's own tools, and its figures by the recordings."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

from freepage_client.nfs.mountstats import render_mountstats
from freepage_lab.sim.world import World, run_world


def _sample() -> str:
    async def story(world: World) -> str:
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
        return render_mountstats(machine.mounts, world.clock.now())

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
