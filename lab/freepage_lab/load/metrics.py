"""What a load generator exports at /metrics: ``freepage_load_*``."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from freepage_lab.load.latency import Latencies
from freepage_lab.load.profile import Profile
from freepage_lab.load.tally import Tally
from freepage_runtime.cache_metrics import counter, gauge, labelled
from freepage_runtime.histogram import LATENCY_BOUNDS_S


def _durations(name: str, documentation: str, label: str, of: Mapping[str, Latencies]) -> Metric:
    family = HistogramMetricFamily(name, documentation, labels=(label,))
    bounds = [*map(str, LATENCY_BOUNDS_S), "+Inf"]
    for value, latencies in of.items():
        counts = [*map(float, latencies.below(LATENCY_BOUNDS_S)), float(latencies.count)]
        family.add_metric((value,), list(zip(bounds, counts, strict=True)), latencies.sum_s)
    return family


def load(profile: Profile, tally: Tally, clients: int) -> Iterator[Metric]:
    """The metrics of one load."""
    operations = {operation.name: Latencies() for operation in profile.mix} | tally.operations
    info = GaugeMetricFamily("freepage_load_info", "What load is driven.", labels=("profile", "loop"))
    info.add_metric((profile.name, "open" if profile.rate else "closed"), 1)
    yield info
    yield _durations(
        "freepage_load_operation_duration_seconds",
        "Duration of operations that ended well, from the time they were due, by operation.",
        "operation",
        operations,
    )
    yield _durations(
        "freepage_load_call_duration_seconds", "Duration of system calls, by call.", "call", dict(tally.calls)
    )
    errors = {(operation, what): float(n) for (operation, what), n in tally.errors.items()}
    errors = {(operation, "corrupt"): 0.0 for operation in operations} | errors
    yield labelled(
        CounterMetricFamily,
        "freepage_load_errors",
        "Operations that failed, by operation and errno; corrupt: what was read is not what was written.",
        ("operation", "error"),
        errors,
    )
    yield counter("freepage_load_read_bytes", "Bytes read.", tally.read_bytes)
    yield counter("freepage_load_written_bytes", "Bytes written.", tally.written_bytes)
    yield counter("freepage_load_verified_bytes", "Bytes read and found as written.", tally.verified_bytes)
    yield gauge("freepage_load_in_flight", "Operations under way.", tally.in_flight)
    yield gauge("freepage_load_late_seconds", "How far an open loop is behind its schedule.", tally.late_s)
    yield gauge(
        "freepage_load_target_rate", "Operations a second that an open loop owes; 0: closed loop.", profile.rate
    )
    yield gauge("freepage_load_workers", "Programs running.", profile.workers * clients)
    yield gauge("freepage_load_clients", "Client daemons driven.", clients)


class LoadCollector(Collector):
    """``look`` gives the tally and the number of clients of this moment."""

    def __init__(self, profile: Profile, look: Callable[[], tuple[Tally, int]]) -> None:
        self._profile = profile
        self._look = look

    def collect(self) -> Iterator[Metric]:
        tally, clients = self._look()
        yield from load(self._profile, tally, clients)

    def describe(self) -> Iterator[Metric]:
        return iter(())


def registry(profile: Profile, look: Callable[[], tuple[Tally, int]]) -> CollectorRegistry:
    registry = CollectorRegistry()
    registry.register(LoadCollector(profile, look))
    ProcessCollector(registry=registry)
    return registry
