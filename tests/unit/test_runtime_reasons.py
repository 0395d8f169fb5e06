"""What of gRPC's prose is shown to people. The texts are those of grpcio 1.85."""

from __future__ import annotations

import pytest

from freepage_runtime.reasons import brief


@pytest.mark.parametrize(
    ("details", "shown"),
    [
        (
            "failed to connect to all addresses; last error: UNKNOWN: ipv4:127.0.0.1:1: Failed to connect to remote "
            "host: Connection refused",
            "Connection refused",
        ),
        (
            "failed to connect to all addresses; last error: UNAVAILABLE: ipv6:%5B::1%5D:1: Failed to connect to "
            "remote host: Timeout occurred: FD Shutdown",
            "Timeout occurred: FD Shutdown",
        ),
        (
            "errors resolving no.such.host.invalid:1: [field:hostname lookup error:address lookup failed for "
            "no.such.host.invalid:1: Domain name not found]",
            "Domain name not found",
        ),
        ("Socket closed", "Socket closed"),
        ("a sentence: of our own", "a sentence: of our own"),
        ("", ""),
    ],
)
def test_brief(details: str, shown: str) -> None:
    assert brief(details) == shown
