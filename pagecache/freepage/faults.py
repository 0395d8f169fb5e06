"""What may go wrong on purpose: lifecycle bugs, switched on at run time, that the rules and the audit must catch.

A fault strikes at one removal: on chosen paths, functions, files and page indices, always, with a probability, or every
Nth time. The exit door asks `strike` once for each removal while anything is armed, and lets the fault act at its named
points: the pointer was taken, the page was removed, the hook was called, the reference was dropped.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from .page import HOOK_ABSENT, Page
from .policy import RemovalPath, parse_number
from .sanitizer import call_freepage
from .slab import CACHED, SlabObject

if TYPE_CHECKING:
    from .address_space import AddressSpace
    from .cache import PageCache

Hook = Callable[[Page], None]


class FaultInjected(Exception):
    """What the fault `raise` raises inside the hook."""


def forgotten(page: Page) -> None:
    """Stands for a hook that nobody will call: the exit door goes on without it."""
    raise AssertionError(f"never called: {page.describe()}")


class Fault:
    """One removal that goes wrong. The base class does everything right; each fault overrides one step."""

    name = ""
    bug = ""
    """what a programmer did wrong"""
    caught_by: tuple[str, ...] = ()
    """the rules that fire; "audit" where mark and sweep disagrees with the ledger, "orphaned" where objects are lost"""
    classes: tuple[int, ...] = ()
    """the numbers of the bug classes it implements, in the specification's list of twenty-five"""
    functions: tuple[str, ...] = ()
    """strikes in these functions only; empty: in all"""

    def __init__(self, cache: PageCache, mapping: AddressSpace, path: RemovalPath) -> None:
        self.cache = cache
        self.mapping = mapping
        self.path = path

    def taken(self, page: Page, freepage: Hook) -> Hook:
        """The pointer was taken; the page is still visible."""
        return freepage

    def removed(self, page: Page, freepage: Hook) -> Hook:
        """The page is no longer visible; the hook is about to be called."""
        return freepage

    def hooked(self, page: Page, freepage: Hook) -> None:
        """The hook was called; the cache's reference is about to be dropped."""

    def dropped(self, page: Page) -> None:
        """The cache's reference was dropped."""


class SiteFault(Fault):
    """A bug in the file system's own code, beside the exit door: that code asks `Faults.at` where it could happen.

    Its file system adds it to the switchboard with `Faults.extend`. It has no removal path.
    """


class Skip(Fault):
    name = "skip"
    bug = "the hook is not called"
    caught_by = ("hook_missed", "private_left_behind", "orphaned")
    classes: tuple[int, ...] = (1, 2, 3, 4)

    def removed(self, page: Page, freepage: Hook) -> Hook:
        return forgotten


class LeakOnError(Skip):
    name = "leak_on_error"
    bug = "the hook is not called for readahead that was not submitted, nor for bad memory"
    classes = (5,)
    functions = ("read_pages", "generic_error_remove_page")


class CallTwice(Fault):
    name = "call_twice"
    bug = "remover and last reference both call the hook, on the same object"
    caught_by = ("hook_called_twice", "double_free")
    classes = (6,)

    def removed(self, page: Page, freepage: Hook) -> Hook:
        self.stale = page.owned
        return freepage

    def hooked(self, page: Page, freepage: Hook) -> None:
        page.owned = self.stale
        call_freepage(self.cache, self.path, page, freepage)
        page.owned = None


class CallEarly(Fault):
    name = "call_early"
    bug = "the hook is called before the page leaves the tree: a reader finds a page whose object is gone"
    caught_by = ("hook_page_visible",)
    classes = (7,)

    def taken(self, page: Page, freepage: Hook) -> Hook:
        call_freepage(self.cache, self.path, page, freepage)
        return forgotten


class CallLate(Fault):
    name = "call_late"
    bug = "the hook is put on a queue and called when the page is long unlocked and freed"
    caught_by = ("hook_missed", "hook_page_unlocked", "audit")
    classes = (10,)

    def removed(self, page: Page, freepage: Hook) -> Hook:
        self.cache.faults.deferred.append((self.path, page, page.disown(), freepage))
        return forgotten


class LatePointer(Fault):
    name = "late_pointer"
    bug = "a_ops is read after the page left, and the inode was freed meanwhile (Piggin's question)"
    caught_by = ("mapping_poisoned", "private_left_behind", "orphaned")
    classes = (13,)

    def removed(self, page: Page, freepage: Hook) -> Hook:
        with self.mapping.poisoned_meanwhile():
            late = self.mapping.a_ops.freepage
        return forgotten if late is None else late

    def hooked(self, page: Page, freepage: Hook) -> None:
        page.hook = HOOK_ABSENT  # what was read from the freed memory was no hook


class Block(Fault):
    name = "block"
    bug = "the hook waits for something"
    caught_by = ("hook_blocked",)
    classes = (10,)

    def removed(self, page: Page, freepage: Hook) -> Hook:
        def hook(page: Page) -> None:
            self.cache.might_sleep("an RPC")
            freepage(page)

        return hook


class Raise(Fault):
    name = "raise"
    bug = "the hook raises before it has released anything"
    caught_by = ("hook_raised", "private_left_behind", "orphaned")
    classes = (15,)

    def removed(self, page: Page, freepage: Hook) -> Hook:
        def hook(page: Page) -> None:
            raise FaultInjected("injected")

        return hook


class TouchMapping(Fault):
    name = "touch_mapping"
    bug = "the hook looks at the mapping, whose inode was freed meanwhile"
    caught_by = ("mapping_poisoned",)
    classes = (11,)

    def removed(self, page: Page, freepage: Hook) -> Hook:
        def hook(page: Page) -> None:
            freepage(page)
            with self.mapping.poisoned_meanwhile():
                self.mapping.find_page(page.index)

        return hook


class TakeReference(Fault):
    name = "take_reference"
    bug = "the hook takes a reference on the page, whose count reclaim holds at 0"
    caught_by = ("use_after_free",)
    classes = (12,)

    def removed(self, page: Page, freepage: Hook) -> Hook:
        def hook(page: Page) -> None:
            freepage(page)
            page.get()

        return hook


class UnlockEarly(Fault):
    name = "unlock_early"
    bug = "the page is unlocked before the hook, which a reader of its contents may race with (2.6.37)"
    caught_by = ("hook_page_unlocked",)
    classes = (9,)

    def removed(self, page: Page, freepage: Hook) -> Hook:
        page.unlock()
        return freepage

    def hooked(self, page: Page, freepage: Hook) -> None:
        page.trylock()


class LeakCredential(Fault):
    name = "leak_credential"
    bug = "the request is released, its reference on the credential is not"
    caught_by = ("audit",)
    classes = (14,)

    def removed(self, page: Page, freepage: Hook) -> Hook:
        if page.owned is not None:
            for other in page.owned.held:
                other.get(CACHED)
        return freepage


class DropCredentialTwice(Fault):
    name = "drop_credential_twice"
    bug = "the request's reference on the credential is given back by the hook, and again by the request"
    caught_by = ("double_free",)
    classes = (14,)

    def removed(self, page: Page, freepage: Hook) -> Hook:
        if page.owned is not None:
            for other in list(page.owned.held):
                other.put(CACHED)
        return freepage


class DropReferenceTwice(Fault):
    name = "drop_reference_twice"
    bug = "the remover drops the page's reference after the exit door did"
    caught_by = ("freed_with_references",)
    classes = (6,)

    def dropped(self, page: Page) -> None:
        page.put()


class HookOnMigration(Fault):
    name = "hook_on_migration"
    bug = "migration calls the hook on the new page: its objects are freed while it is in the cache"
    caught_by = ("hook_page_visible",)
    classes = (8,)
    functions = ("migrate_page",)

    def hooked(self, page: Page, freepage: Hook) -> None:
        call_freepage(self.cache, self.path, page, freepage)


class SkipRecheck(Fault):
    name = "skip_recheck"
    bug = "a lookup that waited for the page lock does not look at page.mapping again"
    caught_by = ("use_after_free",)
    classes = (22,)
    functions = ("lookup",)


GALLERY: dict[str, type[Fault]] = {
    fault.name: fault
    for fault in (
        Skip,
        LeakOnError,
        CallTwice,
        CallEarly,
        CallLate,
        LatePointer,
        Block,
        Raise,
        TouchMapping,
        TakeReference,
        UnlockEarly,
        LeakCredential,
        DropCredentialTwice,
        DropReferenceTwice,
        HookOnMigration,
        SkipRecheck,
    )
}
"""every fault that can be switched on, by name"""


@dataclass(slots=True)
class ArmedFault:
    """A fault and where it strikes. None matches everything; `indices` is a half-open range of pages."""

    kind: type[Fault]
    paths: frozenset[RemovalPath]
    probability: float | None = None
    every_nth: int | None = None
    inode: str | None = None
    """the host's audit_name, or its i_ino in decimal"""
    indices: tuple[int, int] | None = None
    seen: int = 0
    injected: int = 0

    def matches(self, path: RemovalPath, function: str, mapping: AddressSpace, page: Page) -> bool:
        if path not in self.paths or issubclass(self.kind, SiteFault):
            return False
        functions = self.kind.functions
        if functions:
            if function not in functions:
                return False
        elif function in ("migrate_page", "lookup"):
            return False  # not removals: only the faults that ask for them
        return self.matches_page(mapping, page.index)

    def matches_page(self, mapping: AddressSpace, index: int) -> bool:
        if self.indices is not None and not self.indices[0] <= index < self.indices[1]:
            return False
        return self.inode is None or self.inode in (mapping.host.audit_name, str(mapping.host.i_ino))

    def due(self, random: Callable[[], float] | None) -> bool:
        """Does it strike this time? Counts the occasion."""
        self.seen += 1
        if self.every_nth is not None and self.seen % self.every_nth:
            return False
        if self.probability is not None:
            assert random is not None
            if random() >= self.probability:
                return False
        self.injected += 1
        return True


@dataclass(slots=True)
class Faults:
    """The switchboard of one cache."""

    cache: PageCache
    gallery: dict[str, type[Fault]] = field(default_factory=lambda: dict(GALLERY))
    """what can be armed: GALLERY and what the file systems added"""
    armed: dict[str, ArmedFault] = field(default_factory=dict)
    deferred: list[tuple[RemovalPath, Page, SlabObject | None, Hook]] = field(default_factory=list)
    """hooks that the fault `call_late` owes: run_deferred calls them"""

    def extend(self, kinds: Iterable[type[Fault]]) -> None:
        """Add a file system's own faults."""
        self.gallery.update({kind.name: kind for kind in kinds})

    def set(
        self,
        name: str,
        path: RemovalPath | str = "all",
        *,
        probability: float | None = None,
        every_nth: int | None = None,
        inode: str | None = None,
        indices: tuple[int, int] | None = None,
    ) -> None:
        """Arm a fault of the gallery (again: with the new settings). ValueError on what does not exist."""
        kind = self.gallery.get(name)
        if kind is None:
            raise ValueError(f"no fault is called {name!r}; there are {', '.join(self.gallery)}")
        if issubclass(kind, SiteFault) and path != "all":
            raise ValueError(f"the fault {name!r} strikes on no removal path")
        paths = frozenset(RemovalPath) if path == "all" else frozenset([RemovalPath(path)])
        if probability is not None and every_nth is not None:
            raise ValueError("either a probability or every Nth, not both")
        if probability is not None and not 0.0 <= probability <= 1.0:
            raise ValueError(f"probability {probability} is not between 0 and 1")
        if probability is not None and self.cache.random is None:
            raise ValueError("this cache was given no source of chance; use every=N")
        if every_nth is not None and every_nth < 1:
            raise ValueError(f"every={every_nth} is less than 1")
        self.armed[name] = ArmedFault(kind, paths, probability, every_nth, inode, indices)

    def clear(self, name: str | None = None) -> None:
        """Disarm one fault, or all."""
        if name is None:
            self.armed.clear()
        else:
            self.armed.pop(name, None)

    def parse(self, text: str) -> None:
        """`NAME[:path=P][:every=N][:probability=X][:inode=NAME][:index=A-B]`, `NAME=off`, `off`. ValueError."""
        if text == "off":
            self.clear()
            return
        if text.endswith("=off"):
            self.clear(text.removesuffix("=off"))
            return
        name, *options = text.split(":")
        path: str = "all"
        probability: float | None = None
        every_nth: int | None = None
        inode: str | None = None
        indices: tuple[int, int] | None = None
        for option in options:
            key, _, value = option.partition("=")
            match key:
                case "path":
                    path = value
                case "every":
                    every_nth = parse_number(int, option)
                case "probability":
                    probability = parse_number(float, option)
                case "inode":
                    inode = value
                case "index":
                    first, dash, last = value.partition("-")
                    if not first.isdecimal() or not (last if dash else first).isdecimal():
                        raise ValueError(f"fault {text!r}: write index=3 or index=3-5")
                    indices = (int(first), int(last if dash else first) + 1)
                case _:
                    raise ValueError(f"fault {text!r}: unknown option {key!r}")
        self.set(name, path, probability=probability, every_nth=every_nth, inode=inode, indices=indices)

    def strike(self, path: RemovalPath, function: str, mapping: AddressSpace, page: Page) -> Fault | None:
        """The fault that strikes at this removal, if one does: the first armed one that matches and is due."""
        for armed in self.armed.values():
            if not armed.matches(path, function, mapping, page):
                continue
            if armed.due(self.cache.random):
                return armed.kind(self.cache, mapping, path)
        return None

    def at(self, name: str, mapping: AddressSpace, index: int) -> bool:
        """Does the file system's fault `name` strike here, at this page of this file?"""
        armed = self.armed.get(name)
        return armed is not None and armed.matches_page(mapping, index) and armed.due(self.cache.random)

    def run_deferred(self) -> int:
        """Call the hooks that `call_late` put off; returns their number."""
        deferred, self.deferred = self.deferred, []
        for path, page, owned, freepage in deferred:
            page.owned = owned
            call_freepage(self.cache, path, page, freepage)
        return len(deferred)

    def injected(self) -> dict[str, int]:
        """How often each armed fault has struck."""
        return {name: armed.injected for name, armed in self.armed.items()}
