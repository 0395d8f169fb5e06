"""The kernel's files about memory: rendered from live objects, parsed as the kernel's own readers do, and compared."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass

import pytest

import freepage as fp
from freepage import PAGE_SIZE
from freepage_runtime import procfs
from pagecache_toyfs import FillRequest, ToyFs, drive


@dataclass
class Clock:
    now_s: float = 1000.0

    def __call__(self) -> float:
        return self.now_s


@dataclass
class Machine:
    """A machine whose cache was used: some pages read, some written, some lost without their hook."""

    cache: fp.PageCache
    clock: Clock
    mapping: fp.AddressSpace


@pytest.fixture
def machine() -> Machine:
    clock = Clock()
    cache = fp.PageCache(now=clock, memcg=fp.MemCgroup(256), random=lambda: 0.0)
    fs = ToyFs(cache)
    mapping = fs.create("/toy/file", 100 * PAGE_SIZE)
    file = fp.File(mapping)
    for _ in range(3):
        drive(fp.filemap_read(file, 0, 60 * PAGE_SIZE))
    drive(fp.generic_perform_write(file, 70 * PAGE_SIZE, bytes(3 * PAGE_SIZE)))
    clock.now_s += 2.5
    cache.policy.parse("truncate=skip")
    drive(fp.truncate_inode_pages_range(mapping, 55 * PAGE_SIZE, 60 * PAGE_SIZE))
    clock.now_s += 0.25
    return Machine(cache, clock, mapping)


# --- /proc/slabinfo --------------------------------------------------------------------------------

SLABINFO_2_1 = (
    "# name            <active_objs> <num_objs> <objsize> <objperslab> <pagesperslab>"
    " : tunables <limit> <batchcount> <sharedfactor> : slabdata <active_slabs> <num_slabs> <sharedavail>"
)


def parse_slabinfo(text: str) -> dict[str, dict[str, int]]:
    """As libproc2's slabinfo reader takes a line apart: by the names in the header."""
    version, header, *lines = text.splitlines()
    assert version == "slabinfo - version: 2.1"
    assert header == SLABINFO_2_1
    columns = re.findall(r"<(\w+)>", header)
    parsed = {}
    for line in lines:
        match = re.fullmatch(r"(\S+) +((?:\d+ +){5}): tunables +((?:\d+ +){3}): slabdata +(\d+ +\d+ +\d+)", line)
        assert match is not None, line
        numbers = [int(n) for n in " ".join(match.groups()[1:]).split()]
        parsed[match[1]] = dict(zip(columns, numbers, strict=True))
    return parsed


def test_slabinfo(machine: Machine) -> None:
    ledger = machine.cache.ledger
    text = procfs.slabinfo(ledger)
    parsed = parse_slabinfo(text)
    assert parsed.keys() == ledger.caches.keys() == {"nfs_page", "rpc_cred"}
    for name, numbers in parsed.items():
        slab = ledger.caches[name]
        assert numbers["active_objs"] == slab.active == ledger.live(name)
        assert numbers["objsize"] == slab.objsize
        assert numbers["objperslab"] == PAGE_SIZE // slab.objsize
        assert numbers["num_objs"] == numbers["num_slabs"] * numbers["objperslab"] >= numbers["active_objs"]
        assert (numbers["num_slabs"] - 1) * numbers["objperslab"] < numbers["active_objs"]
        assert numbers["active_slabs"] == numbers["num_slabs"]
        assert numbers["limit"] == numbers["batchcount"] == numbers["sharedfactor"] == numbers["sharedavail"] == 0
    assert parsed["nfs_page"]["active_objs"] == machine.cache.nr_file_pages + 5  # five were lost


def test_a_line_of_slabinfo_has_the_kernels_columns() -> None:
    """What mm/slab_common.c:cache_show prints for 70 objects of 128 bytes."""
    ledger = fp.Ledger(lambda: 0.0)
    held = [FillRequest(ledger, fp.ObjectState.CACHED, "read") for _ in range(70)]
    assert procfs.slabinfo(ledger).splitlines()[2] == (
        "nfs_page              70     96    128   32    1 : tunables    0    0    0 : slabdata      3      3      0"
    )
    assert len(held) == 70


# --- /proc/meminfo --------------------------------------------------------------------------------


def parse_meminfo(text: str) -> dict[str, int]:
    """Bytes by name. fs/proc/meminfo.c: a name and colon in 16 columns, the number in 8, ' kB'."""
    numbers = {}
    for line in text.splitlines():
        match = re.fullmatch(r"(?P<name>[A-Z]\w+(?:\(file\))?):(?P<pad> +)(?P<kib>\d+) kB", line)
        assert match is not None, line
        assert match.start("kib") <= 24 - len(match["kib"]) and match.end("kib") == 24, line
        numbers[match["name"]] = int(match["kib"]) * 1024
    return numbers


def test_meminfo(machine: Machine) -> None:
    cache = machine.cache
    parsed = parse_meminfo(procfs.meminfo(cache))
    slabs = sum(slab.active * slab.objsize for slab in cache.ledger.caches.values())
    stat = cache.vmstat()
    assert parsed["MemTotal"] == 256 * PAGE_SIZE
    assert parsed["Cached"] == cache.nr_file_pages * PAGE_SIZE > 60 * PAGE_SIZE
    assert parsed["Dirty"] == stat["nr_dirty"] * PAGE_SIZE == 3 * PAGE_SIZE
    assert parsed["Writeback"] == stat["nr_writeback"] * PAGE_SIZE == 0
    assert parsed["Active(file)"] == stat["nr_active_file"] * PAGE_SIZE > 0
    assert parsed["Inactive(file)"] == stat["nr_inactive_file"] * PAGE_SIZE > 0
    assert parsed["Slab"] == parsed["SUnreclaim"] == slabs // 1024 * 1024 > 0
    assert parsed["SReclaimable"] == parsed["NFS_Unstable"] == 0
    assert parsed["MemFree"] == (256 * PAGE_SIZE - parsed["Cached"] - slabs) // 1024 * 1024


def test_meminfo_without_a_limit_has_what_is_used() -> None:
    cache = fp.PageCache(now=lambda: 0.0)
    parsed = parse_meminfo(procfs.meminfo(cache))
    assert parsed["MemTotal"] == parsed["MemFree"] == parsed["Cached"] == 0


# --- /proc/vmstat --------------------------------------------------------------------------------


def test_vmstat(machine: Machine) -> None:
    text = procfs.vmstat(machine.cache)
    assert all(re.fullmatch(r"[a-z0-9_]+ \d+", line) for line in text.splitlines())
    assert text.endswith("\n")
    parsed = {name: int(value) for name, value in (line.split(" ") for line in text.splitlines())}
    assert parsed == machine.cache.vmstat()
    assert parsed["nr_file_pages"] == machine.cache.nr_file_pages
    assert parsed["nr_dirty"] == 3
    assert {
        "nr_inactive_file",
        "nr_active_file",
        "nr_writeback",
        "pgactivate",
        "workingset_refault_file",
    } <= parsed.keys()


# --- /sys/kernel/debug/kmemleak --------------------------------------------------------------------------------

BLOCK = re.compile(
    r"unreferenced object 0x(?P<address>[0-9a-f]{8,16}) \(size (?P<size>\d+)\):\n"
    r'  comm "(?P<comm>.{1,15})", pid (?P<pid>\d+), jiffies (?P<jiffies>\d+) \(age (?P<age_s>\d+\.\d{3})s\)\n'
    r"  backtrace:\n"
    r"    \[<[0-9a-f]{16}>\] (?P<symbol>\w+)\+0x0/0x0 \[(?P<module>\w+)\]\n"
)


def test_kmemleak(machine: Machine) -> None:
    ledger = machine.cache.ledger
    text = procfs.kmemleak(ledger)
    blocks = list(BLOCK.finditer(text))
    assert "".join(block[0] for block in blocks) == text
    orphans = {f"{id(record.obj):08x}": record.obj for record in ledger.orphans()}
    assert len(blocks) == len(orphans) == ledger.orphaned()["nfs_page"] == 5
    for block in blocks:
        obj = orphans.pop(block["address"])
        assert isinstance(obj, FillRequest)
        assert (block["module"], block["symbol"]) == (obj.slab_name, obj.site)
        assert int(block["size"]) == obj.objsize
        assert float(block["age_s"]) == machine.clock.now_s - obj.born_s == 2.75
        assert int(block["jiffies"]) == obj.born_s * procfs.HZ
        assert (block["comm"], int(block["pid"])) == ("freepage", os.getpid())


def test_kmemleak_also_names_what_only_orphans_hold() -> None:
    ledger = fp.Ledger(lambda: 0.0)

    class Request(fp.SlabObject):
        slab_name = "nfs_page"

    class Cred(fp.SlabObject):
        slab_name = "rpc_cred"

    cred = Cred(ledger, site="open")
    for index in range(2):
        request = Request(ledger, fp.ObjectState.CACHED, "read")
        request.hold(cred)
        ledger.orphan(request, file="/f", index=index, path=fp.RemovalPath.DROP, function="__remove_mapping")
    assert [block["module"] for block in BLOCK.finditer(procfs.kmemleak(ledger))] == ["nfs_page"] * 2
    cred.put()  # the last one who was not an orphan
    assert sorted(block["module"] for block in BLOCK.finditer(procfs.kmemleak(ledger))) == [
        "nfs_page",
        "nfs_page",
        "rpc_cred",
    ]


def test_nothing_lost_is_an_empty_file() -> None:
    assert procfs.kmemleak(fp.Ledger(lambda: 0.0)) == ""


def test_files_are_rendered_when_they_are_read(machine: Machine) -> None:
    files = procfs.files(machine.cache, {"/proc/self/mountstats": lambda: "device\n"})
    assert set(files) == {
        "/proc/meminfo",
        "/proc/slabinfo",
        "/proc/vmstat",
        "/proc/self/mountstats",
        "/sys/kernel/debug/kmemleak",
    }
    before = files["/proc/vmstat"]()
    machine.cache.drop_pagecache()
    assert files["/proc/vmstat"]() != before
    assert files["/proc/self/mountstats"]() == "device\n"
