"""What a page cache counts, as Prometheus metrics: the part that servers and clients have in common.

The page cache counts with plain integers; these functions turn them into metric families when somebody scrapes. Every
value of every label is there from the first scrape on, with 0, so that a rate over it is right from its first
increment on.

Names are ``freepage_<subsystem>_<what>[_<unit>][_total]``. No label carries a page, a file or a user.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from freepage import PAGE_SIZE, PageCache, RemovalPath
from freepage_runtime.histogram import LatencyHistogram
from freepage_runtime.httpd import Page, Request


def gauge(name: str, documentation: str, value: float) -> Metric:
    return GaugeMetricFamily(name, documentation, value=value)


def counter(name: str, documentation: str, value: float) -> Metric:
    """``name`` without ``_total``, which is added."""
    return CounterMetricFamily(name, documentation, value=value)


def labelled(
    kind: type[GaugeMetricFamily] | type[CounterMetricFamily],
    name: str,
    documentation: str,
    labels: tuple[str, ...],
    values: Mapping[Any, float],
) -> Metric:
    """A family with one sample per tuple of label values."""
    family = kind(name, documentation, labels=labels)
    for each, value in values.items():
        family.add_metric(each, value)
    return family


def by_path(name: str, documentation: str, counts: Mapping[RemovalPath, int]) -> Metric:
    return labelled(
        CounterMetricFamily, name, documentation, ("path",), {(str(path),): n for path, n in counts.items()}
    )


def histogram(name: str, documentation: str, label: str, values: Iterable[tuple[str, LatencyHistogram]]) -> Metric:
    family = HistogramMetricFamily(name, documentation, labels=(label,))
    for value, observed in values:
        family.add_metric((value,), observed.buckets(), observed.sum_s)
    return family


def page_cache(cache: PageCache) -> Iterator[Metric]:
    """Pages, the hook, slab objects and VM events of one machine."""
    dirty = sum(mapping.nr_dirty for mapping in cache.mappings)
    writeback = sum(mapping.nr_writeback for mapping in cache.mappings)
    lruvec = cache.memcg.lruvec
    yield labelled(
        GaugeMetricFamily,
        "freepage_pagecache_pages",
        "Pages in the page cache by state; a page dirtied again under writeback counts as writeback and as dirty.",
        ("state",),
        {
            ("clean",): max(cache.nr_file_pages - dirty - writeback, 0),
            ("dirty",): dirty,
            ("writeback",): writeback,
        },
    )
    yield labelled(
        GaugeMetricFamily,
        "freepage_pagecache_lru_pages",
        "Pages on the two LRU lists.",
        ("list",),
        {("active",): len(lruvec.active), ("inactive",): len(lruvec.inactive)},
    )
    yield gauge(
        "freepage_pagecache_removed_alive_pages",
        "Pages that left the page cache and are kept alive by references.",
        cache.nr_removed_pages,
    )
    yield gauge(
        "freepage_pagecache_folio_slack_pages",
        "Pages' worth of contents in memory for no cached page: neighbours of theirs are still cached.",
        cache.folio_slack_pages(),
    )
    yield gauge(
        "freepage_pagecache_limit_bytes",
        "Memory limit of the page cache; +Inf without one.",
        float("inf") if cache.memcg.limit_pages is None else cache.memcg.limit_pages * PAGE_SIZE,
    )
    background, limit = cache.dirty.limits()
    yield labelled(
        GaugeMetricFamily,
        "freepage_pagecache_dirty_threshold_pages",
        "Dirty pages from which on the flusher writes (background), and from which on writers wait (limit).",
        ("threshold",),
        {("background",): background, ("limit",): limit},
    )
    yield counter("freepage_pagecache_hits", "Pages that a read found in the page cache.", cache.hits)
    yield counter("freepage_pagecache_misses", "Pages that a read did not find in the page cache.", cache.misses)
    yield by_path("freepage_pagecache_removed_pages", "Pages that left the page cache, by removal path.", cache.removed)
    yield by_path("freepage_hook_calls", "Calls of the freepage hook, by removal path.", cache.hook_calls)
    yield by_path(
        "freepage_hook_skips", "Removals for which the policy skipped the hook, by removal path.", cache.skipped
    )
    yield by_path(
        "freepage_hook_skips_owned",
        "Skipped removals whose page owned an object, which is orphaned since, by removal path.",
        cache.skipped_owned,
    )
    yield by_path(
        "freepage_hook_orphans",
        "Objects that were orphaned because their page left without a hook that released them, by removal path.",
        cache.ledger.lost,
    )
    yield labelled(
        GaugeMetricFamily,
        "freepage_hook_skip_policy",
        "1 where the policy tells the hook to be skipped, always or sometimes, by removal path.",
        ("path",),
        {(path.value,): int(path in cache.policy.rules) for path in RemovalPath},
    )
    yield by_path(
        "freepage_hook_absences",
        "Removals from mappings whose operations table has no freepage, by removal path.",
        cache.unhooked,
    )
    yield labelled(
        CounterMetricFamily,
        "freepage_hook_violations",
        "Broken rules of the freepage hook, by rule.",
        ("rule",),
        {(rule,): count for rule, count in cache.violations.items()},
    )
    injected = cache.faults.injected()
    yield labelled(
        CounterMetricFamily,
        "freepage_faults_injected",
        "Times an armed fault struck since it was armed, by fault.",
        ("fault",),
        {(name,): injected.get(name, 0) for name in cache.faults.gallery},
    )
    yield from _slab(cache)
    # What the page states above say once more would be gauges among counters.
    events = {name: value for name, value in cache.vmstat().items() if name in cache.stat.as_dict()}
    yield labelled(
        CounterMetricFamily,
        "freepage_vm_events",
        "Event counters of the page cache and its memory cgroup, in the names of /proc/vmstat.",
        ("event",),
        {(name,): value for name, value in events.items()},
    )


def _slab(cache: PageCache) -> Iterator[Metric]:
    caches = list(cache.ledger.caches.values())
    accounts = [(slab.name, account) for slab in caches for account in slab.uses.values()]
    yield labelled(
        GaugeMetricFamily,
        "freepage_slab_objects",
        "Live objects by slab cache, use and state; orphaned ones are leaked.",
        ("slab", "use", "state"),
        {(slab, use, state.label): count for slab, use, state, count in cache.ledger.counts()},
    )
    yield labelled(
        CounterMetricFamily,
        "freepage_slab_allocations",
        "Objects allocated, by slab cache and use.",
        ("slab", "use"),
        {(slab, account.use): account.allocs for slab, account in accounts},
    )
    yield labelled(
        CounterMetricFamily,
        "freepage_slab_frees",
        "Objects freed, by slab cache and use.",
        ("slab", "use"),
        {(slab, account.use): account.frees for slab, account in accounts},
    )
    yield labelled(
        GaugeMetricFamily,
        "freepage_slab_pinned_references",
        "References that orphaned objects hold on live objects, by the slab cache of what they pin.",
        ("slab",),
        {(slab.name,): slab.pinned for slab in caches},
    )
    yield labelled(
        GaugeMetricFamily,
        "freepage_slab_object_size_bytes",
        "Size of an object, as the kernel's.",
        ("slab",),
        {(slab.name,): slab.objsize for slab in caches},
    )


class MachineCollector(Collector):
    """Everything one process exports: its page cache, and what ``more`` adds."""

    def __init__(
        self, cache: PageCache, *, role: str, version: str, more: Callable[[], Iterator[Metric]], name: str = ""
    ) -> None:
        self._cache = cache
        self._info = {"role": role, "name": name, "version": version}
        self._more = more

    def collect(self) -> Iterator[Metric]:
        yield InfoMetricFamily("freepage_build", "What this process is.", value=self._info)
        yield from page_cache(self._cache)
        yield from self._more()

    def describe(self) -> Iterator[Metric]:
        """Nothing beforehand: describing would be a scrape."""
        return iter(())


def registry(collector: MachineCollector) -> CollectorRegistry:
    """The registry of one process: its machine, and what the system knows of the process."""
    registry = CollectorRegistry()
    registry.register(collector)
    ProcessCollector(registry=registry)
    return registry


def metrics_page(registry: CollectorRegistry, request: Request) -> Page:
    """``/metrics``, in the format that the scraper prefers (Prometheus text or OpenMetrics)."""
    encode, content_type = choose_encoder(request.headers.get("accept", ""))
    return Page(content_type, encode(registry))
