"""The rules of the hook, checked at run time.

The founding patch's locking table says it in two columns: the page is locked, and freepage may not block. Its
documentation adds that the page is no longer visible in the page cache and that the original mapping may be gone.
Each rule is a counter; in strict mode breaking it raises RuleViolation with the object's story.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from .errors import RuleViolation
from .folio import LOCKED, OUTSIDE
from .page import HOOK_CALLED, Page

if TYPE_CHECKING:
    from .cache import PageCache
    from .policy import RemovalPath

RULES = {
    "hook_called_twice": "freepage ran a second time for the same page",
    "hook_missed": "the page was freed, and freepage was neither called nor skipped by policy",
    "hook_page_visible": "freepage ran while lookups still find the page",
    "hook_page_unlocked": "freepage ran, or the page was removed, without the page lock",
    "hook_blocked": "freepage blocked, or tried to",
    "hook_raised": "freepage raised an exception",
    "mapping_poisoned": "a mapping was touched after its inode was freed",
    "freed_with_references": "a page was freed while referenced, or its reference dropped twice",
    "private_left_behind": "private data, or the page-lifetime object, outlived the page",
    "double_free": "an object was released more often than referenced",
    "use_after_free": "a freed object or page was used",
    "dirty_page_dropped": "a dirty page left the cache outside truncation",
}
"""rule (a metric's label value) -> what it means when it fires"""


def call_freepage(cache: PageCache, path: RemovalPath, page: Page, freepage: Callable[[Page], None]) -> None:
    """Run the hook for a page and hold it to the rules. Nothing calls a hook but through this."""
    folio, off = page.folio, page.off
    state = folio.state[off]
    hooks = folio.hooks
    if hooks is None:
        hooks = folio.hooks = bytearray(folio.max_nr)
    if hooks[off] == HOOK_CALLED:
        cache.violation("hook_called_twice", page.describe())
    if not state & LOCKED:
        cache.violation("hook_page_unlocked", page.describe())
    if not state & OUTSIDE:
        cache.violation("hook_page_visible", page.describe())
    hooks[off] = HOOK_CALLED
    cache.hook_calls[path] += 1
    references = folio.refs.get(off, 0) if folio.refs is not None else 0
    outer, cache.hooked = cache.hooked, page
    try:
        # The annotation says None; a hook that returns something to wait for is exactly what must be caught.
        result: object = freepage(page)  # type: ignore[func-returns-value]
    except RuleViolation:
        raise
    except Exception as error:
        cache.violation("hook_raised", f"{type(error).__name__}: {error}; {page.describe()}", error)
    else:
        if result is not None and hasattr(result, "__await__"):
            close = getattr(result, "close", None)
            if close is not None:
                close()
            cache.violation("hook_blocked", f"freepage returned something to wait for; {page.describe()}")
    finally:
        cache.hooked = outer
    if folio.refs is not None and folio.refs.get(off, 0) > references:
        cache.violation("use_after_free", f"freepage took a reference: {page.describe()}")
