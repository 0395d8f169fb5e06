from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from freepage_runtime.errors import SettingError, UserError
from freepage_runtime.settings import (
    Address,
    format_size,
    is_loopback,
    parse_address,
    parse_size,
)


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0),
        ("4096", 4096),
        ("4k", 4096),
        ("4K", 4096),
        ("4KiB", 4096),
        ("4kB", 4000),
        ("64MiB", 64 << 20),
        (" 64 MiB ", 64 << 20),
        ("64M", 64 << 20),
        ("64MB", 64_000_000),
        ("1.5GiB", 3 << 29),
        ("2T", 2 << 40),
        (123, 123),
    ],
)
def test_sizes(text: str | int, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "MiB", "-1", "1 2", "1.1B", "64MiBs", "0x10", "1e3", "ten", -1])
def test_what_is_not_a_size(text: str | int) -> None:
    with pytest.raises(SettingError, match=r"size|bytes"):
        parse_size(text)


@given(st.integers(min_value=0, max_value=1 << 50))
def test_a_formatted_size_reads_back_to_three_figures(size: int) -> None:
    read = parse_size(format_size(size).replace(" B", "")) if size < 1024 else _read_unit(format_size(size))
    assert abs(read - size) <= max(size * 0.05, 0)


def _read_unit(text: str) -> float:
    number, unit = text.split()
    return float(number) * parse_size(f"1{unit}")


def test_sizes_for_people() -> None:
    assert [format_size(n) for n in (0, 1023, 1024, 1536, 64 << 20, 5 << 50)] == [
        "0 B",
        "1023 B",
        "1 KiB",
        "1.5 KiB",
        "64 MiB",
        "5120 TiB",
    ]


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:2049", Address("127.0.0.1", 2049)),
        ("server:0", Address("server", 0)),
        ("[::1]:2049", Address("::1", 2049)),
        (":8080", Address("127.0.0.1", 8080)),
        ("8080:65535", Address("8080", 65535)),
        ("host", Address("host", 111)),
        ("::1", Address("::1", 111)),
        ("[fe80::1]", Address("fe80::1", 111)),
        ("", Address("127.0.0.1", 111)),
    ],
)
def test_addresses(text: str, address: Address) -> None:
    assert parse_address(text, default_port=111) == address


@pytest.mark.parametrize(
    "text",
    ["host", "host:", "host:x", "host:65536", "host:-1", "a:b:80", "[::1", "[::1]80", "[host]:1", "a b:1", "h:²"],
)
def test_what_is_not_an_address(text: str) -> None:
    with pytest.raises(SettingError, match="not an address"):
        parse_address(text)


@given(st.sampled_from(["127.0.0.1", "::1", "server-1", "fe80::2"]), st.integers(min_value=0, max_value=65535))
def test_an_address_reads_back(host: str, port: int) -> None:
    assert parse_address(str(Address(host, port))) == Address(host, port)


def test_loopback_is_this_machine_alone() -> None:
    assert all(is_loopback(host) for host in ("localhost", "127.0.0.1", "127.8.9.1", "::1"))
    assert not any(is_loopback(host) for host in ("0.0.0.0", "::", "10.0.0.1", "example.org", "localhost.example.org"))
    assert Address("::1", 1).is_loopback
    assert Address("::1", 80).url("/metrics") == "http://[::1]:80/metrics"


def test_a_setting_error_is_a_users_error_with_the_exit_code_of_wrong_usage() -> None:
    assert issubclass(SettingError, UserError)
    assert (UserError.exit_code, SettingError.exit_code) == (1, 2)
