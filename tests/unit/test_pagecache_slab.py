"""Slab objects: references, states that follow their holders, and the audit's second opinion."""

from __future__ import annotations

import json

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

import freepage as fp
from freepage import PAGE_SIZE, ObjectState, RemovalPath
from pagecache_toyfs import Credential, FillRequest, ToyFs, drive, new_cache

IN_USE, CACHED, ORPHANED = ObjectState


class Context(fp.SlabObject):
    slab_name = "nfs_open_context"
    objsize = 168


class WriteRequest(fp.SlabObject):
    slab_name = "nfs_page"
    use = "write"
    objsize = 128


def new_ledger() -> fp.Ledger:
    return fp.Ledger(lambda: 0.0)


def lose(ledger: fp.Ledger, obj: fp.SlabObject, index: int = 0) -> None:
    ledger.orphan(obj, file="f", index=index, path=RemovalPath.RECLAIM, function="__remove_mapping")


def test_born_in_its_holder_s_state_and_freed_by_its_last_reference() -> None:
    ledger = new_ledger()
    cred = Credential(ledger, IN_USE, "mount")
    assert cred.state == IN_USE and cred.alive and ledger.live("rpc_cred", IN_USE) == 1
    cred.get(CACHED)
    cred.put(IN_USE)
    assert cred.state == CACHED and ledger.live("rpc_cred", CACHED) == 1 == ledger.live("rpc_cred")
    cred.put(CACHED)
    assert not cred.alive and ledger.live("rpc_cred") == 0
    account = ledger.caches["rpc_cred"].uses[""]
    assert (account.allocs, account.frees, account.active) == (1, 1, 0)


def test_what_an_object_holds_follows_its_state() -> None:
    ledger = new_ledger()
    cred = Credential(ledger, IN_USE, "open")
    context = Context(ledger, IN_USE, "open")
    context.hold(cred)
    request = WriteRequest(ledger, CACHED, "write")
    request.hold(context)
    cred.put(IN_USE)
    assert (request.state, context.state, cred.state) == (CACHED, IN_USE, IN_USE)
    context.put(IN_USE)  # the file is closed: the request alone holds the context
    assert (request.state, context.state, cred.state) == (CACHED, CACHED, CACHED)
    lose(ledger, request)
    assert (request.state, context.state, cred.state) == (ORPHANED, ORPHANED, ORPHANED)
    assert ledger.pinned() == {"rpc_cred": 1, "nfs_open_context": 1, "nfs_page": 0}
    cred.get(IN_USE)
    assert cred.state == IN_USE and ledger.pinned()["rpc_cred"] == 1
    request.put(ORPHANED)
    assert not request.alive and not context.alive and cred.alive
    assert ledger.pinned() == {"rpc_cred": 0, "nfs_open_context": 0, "nfs_page": 0}


def test_uses_of_one_cache_are_counted_apart() -> None:
    ledger = new_ledger()
    ledger.register("nfs_dir_array", 4096)
    ledger.register("nfs_page", 128, ("fill", "write"))
    FillRequest(ledger, CACHED, "read")
    WriteRequest(ledger, IN_USE, "write")
    assert ledger.live("nfs_page", use="fill") == ledger.live("nfs_page", use="write") == 1
    counts = {(slab, use, state): n for slab, use, state, n in ledger.counts()}
    assert counts["nfs_page", "write", IN_USE] == 1 and counts["nfs_page", "write", CACHED] == 0
    assert ledger.live("nfs_dir_array") == 0 == ledger.live("never heard of")


def test_drop_gives_back_what_was_held() -> None:
    ledger = new_ledger()
    cred = Credential(ledger, IN_USE, "open")
    request = FillRequest(ledger, CACHED, "read")
    request.hold(cred)
    assert cred.references == (1, 1, 0) and request.held == [cred]
    request.drop(cred)
    assert cred.references == (1, 0, 0) and not request.held


def test_on_free_runs_once_before_what_was_held_is_given_back() -> None:
    ledger = new_ledger()
    cred = Credential(ledger, IN_USE, "open")
    seen: list[bool] = []

    class Watched(fp.SlabObject):
        slab_name = "watched"

        def on_free(self) -> None:
            seen.append(cred.alive)

    watched = Watched(ledger, IN_USE, "test")
    watched.hold(cred)
    cred.put(IN_USE)
    watched.put(IN_USE)
    assert seen == [True] and not cred.alive


@pytest.mark.parametrize("strict", [True, False])
def test_double_free_and_use_after_free_are_caught(strict: bool) -> None:
    cache = new_cache(strict=strict)
    cred = Credential(cache.ledger, IN_USE, "open")
    cred.put(IN_USE)

    def breaks(rule: str, action: object) -> None:
        assert callable(action)
        if strict:
            with pytest.raises(fp.RuleViolation, match=rule) as caught:
                action()
            assert caught.value.rule == rule and "rpc_cred allocated by open" in caught.value.story
        else:
            action()
        assert cache.violations[rule] == 1

    breaks("double_free", cred.put)
    breaks("use_after_free", cred.get)
    assert cache.ledger.live("rpc_cred") == 0


def test_a_reference_of_the_wrong_holder_is_caught() -> None:
    cache = new_cache(strict=False)
    cred = Credential(cache.ledger, IN_USE, "open")
    cred.put(CACHED)
    assert cache.violations["double_free"] == 1 and cred.alive


def lost_pages(pages: int) -> ToyFs:
    fs = ToyFs(new_cache(), io_pages=16)
    fs.cache.policy.set("truncate", "skip")
    mapping = fs.create("/export/a.py", pages * PAGE_SIZE)
    drive(fp.filemap_read(fp.File(mapping), 0, pages * PAGE_SIZE))
    drive(fp.truncate_inode_pages_range(mapping, 2 * PAGE_SIZE))
    return fs


def test_audit_names_what_was_lost() -> None:
    fs = lost_pages(10)
    report = fs.cache.ledger.audit([fs.cred], fs.cache.mappings)
    assert report.agrees and report.orphaned == 8
    (group,) = report.groups
    assert (group.file, group.pages, group.count, group.bytes) == ("/export/a.py", [(2, 10)], 8, 8 * 128)
    text = report.render()
    assert "unreferenced nfs_page (fill): 8 objects, 1024 bytes" in text
    assert "file /export/a.py, pages 2-9" in text
    assert "allocated by read" in text and "lost on truncate in delete_from_page_cache_batch" in text
    assert "agrees with the ledger on 11 live objects" in text
    parsed = json.loads(report.to_json())
    assert parsed["agrees"] and parsed["groups"][0]["pages"] == [[2, 10]]
    assert parsed["objects"]["nfs_page"] == {"in_use": 0, "cached": 2, "orphaned": 8}


def test_audit_says_how_old_the_oldest_of_a_group_is() -> None:
    now_s = 10.0
    ledger = fp.Ledger(lambda: now_s)
    for now_s in (10.0, 11.5):  # noqa: B007 (the ledger's clock)
        lose(ledger, FillRequest(ledger, CACHED, "read"))
    now_s = 13.0
    report = ledger.audit([], [])
    assert [group.oldest_age_s for group in report.groups] == [3.0]
    assert "allocated by read, oldest 3.0 s ago" in report.render()


def test_audit_names_what_orphans_keep_alive() -> None:
    fs = lost_pages(3)
    fs.cred.put(IN_USE)  # the mount is gone; cached and orphaned requests still hold the credential
    report = fs.cache.ledger.audit([], fs.cache.mappings)
    assert report.agrees and fs.cred.state == CACHED
    fs.cache.drop_pagecache()
    fs.cache.drop_pagecache()
    report = fs.cache.ledger.audit([], fs.cache.mappings)
    assert report.agrees and fs.cred.state == ORPHANED
    assert [group.held_by for group in report.groups] == ["", "nfs_page"]
    assert "held only by orphaned nfs_page" in report.render()


def test_audit_disagrees_when_somebody_forgets_a_reference() -> None:
    fs = lost_pages(3)
    Credential(fs.cache.ledger, IN_USE, "open")  # nobody's root
    report = fs.cache.ledger.audit([fs.cred], fs.cache.mappings)
    assert not report.agrees
    assert "rpc_cred: the ledger counts 2 in_use, the sweep 1" in report.render()


class SlabMachine(RuleBasedStateMachine):
    """A random web of holders, against a recount from scratch."""

    @initialize()
    def build(self) -> None:
        self.ledger = new_ledger()
        self.roots: list[fp.SlabObject] = []
        self.cached: list[fp.SlabObject] = []
        self.lost: list[fp.SlabObject] = []

    def everything(self) -> list[fp.SlabObject]:
        return [obj for cache in self.ledger.caches.values() for obj in cache.objects]

    @rule(kind=st.sampled_from([Credential, FillRequest, Context]), cached=st.booleans())
    def allocate(self, kind: type[fp.SlabObject], cached: bool) -> None:
        obj = kind(self.ledger, CACHED if cached else IN_USE, "test")
        (self.cached if cached else self.roots).append(obj)

    @rule(a=st.integers(0, 50), b=st.integers(0, 50))
    def hold(self, a: int, b: int) -> None:
        objs = self.everything()
        if len(objs) > 1:
            a, b = sorted((a % len(objs), b % len(objs)))
            if a != b:
                objs[a].hold(objs[b])

    @rule(a=st.integers(0, 50))
    def drop(self, a: int) -> None:
        holders = [obj for obj in self.everything() if obj.held]
        if holders:
            holder = holders[a % len(holders)]
            holder.drop(holder.held[a % len(holder.held)])

    @rule(which=st.integers(0, 50), source=st.sampled_from(["roots", "cached"]))
    def put(self, which: int, source: str) -> None:
        objs = getattr(self, source)
        if objs:
            objs.pop(which % len(objs)).put(CACHED if source == "cached" else IN_USE)

    @rule(which=st.integers(0, 50))
    def lose(self, which: int) -> None:
        if self.cached:
            obj = self.cached.pop(which % len(self.cached))
            self.lost.append(obj)
            lose(self.ledger, obj)

    @invariant()
    def recount(self) -> None:
        if not hasattr(self, "ledger"):
            return
        marks: dict[fp.SlabObject, ObjectState] = {}
        for roots, state in ((self.roots, IN_USE), (self.cached, CACHED), (self.lost, ORPHANED)):
            stack = list(roots)
            while stack:
                obj = stack.pop()
                if obj not in marks:
                    marks[obj] = state
                    stack.extend(obj.held)
        objs = self.everything()
        assert {obj: obj.state for obj in objs} == marks
        for slab, _, state, count in self.ledger.counts():
            assert count == sum(obj.slab_name == slab and obj.state == state for obj in objs)
        pinned = dict.fromkeys(self.ledger.caches, 0)
        for obj in objs:
            if obj.state == ORPHANED:
                for other in obj.held:
                    pinned[other.slab_name] += 1
        assert self.ledger.pinned() == pinned


TestSlabMachine = SlabMachine.TestCase
TestSlabMachine.settings = settings(max_examples=40, stateful_step_count=40)
