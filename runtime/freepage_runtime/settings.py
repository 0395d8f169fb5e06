"""Settings as people write them: sizes and addresses, with errors that say what would have been right."""

from __future__ import annotations

import ipaddress
import re
from typing import NamedTuple

from freepage_runtime.errors import SettingError

LOOPBACK = "127.0.0.1"

_SIZE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z]*)\s*")

_SIZE_UNITS = {"": 1, "b": 1}
for _power, _letter in enumerate("kmgt", start=1):
    # A lone letter is binary, as in mount options and /proc; "kB" keeps its decimal meaning.
    _SIZE_UNITS |= {_letter: 1024**_power, f"{_letter}ib": 1024**_power, f"{_letter}b": 1000**_power}


def parse_size(text: str | int) -> int:
    """Bytes in ``"64MiB"``, ``"64M"`` (binary), ``"64MB"`` (decimal) or ``4096``; SettingError for anything else."""
    if isinstance(text, int):
        if text < 0:
            raise SettingError(f"a size cannot be negative: {text}")
        return text
    match = _SIZE.fullmatch(text)
    unit = _SIZE_UNITS.get(match[2].lower()) if match else None
    if match is None or unit is None:
        raise SettingError(f"not a size: {text!r} (write it like 4096, 512KiB, 64MiB or 1GiB)")
    if "." not in match[1]:
        return int(match[1]) * unit
    size = float(match[1]) * unit
    if not size.is_integer():
        raise SettingError(f"not a whole number of bytes: {text!r}")
    return int(size)


_DURATION = re.compile(r"\s*(\d+(?:\.\d*)?|\.\d+)\s*([a-z]*)\s*")
_UNITS_S = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0}


def parse_duration(text: str | float) -> float:
    """Seconds in ``"250ms"``, ``"30s"``, ``"5m"``, ``"1h"`` or a number; SettingError for anything else."""
    match = _DURATION.fullmatch(str(text))
    unit = _UNITS_S.get(match[2] or "s") if match else None
    if match is None or unit is None:
        raise SettingError(f"not a duration: {text!r} (write it like 30s, 250ms, 5m or 1h)")
    return float(match[1]) * unit


def format_size(size: int) -> str:
    """The largest binary unit that keeps the number short: ``67108864`` is ``64 MiB``, ``1536`` is ``1.5 KiB``."""
    if abs(size) < 1024:
        return f"{size} B"
    units = ("KiB", "MiB", "GiB", "TiB")
    power = min((abs(size).bit_length() - 1) // 10, len(units))
    return f"{size / 1024**power:.1f}".removesuffix(".0") + f" {units[power - 1]}"


def is_loopback(host: str) -> bool:
    """Whether ``host`` is this machine alone: ``localhost``, 127.0.0.0/8 or ::1. No name is looked up."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class Address(NamedTuple):
    """Where something listens: a host (a name or an IP address without brackets) and a TCP port (0: any free one)."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def is_loopback(self) -> bool:
        return is_loopback(self.host)

    def url(self, path: str = "/") -> str:
        return f"http://{self}{path}"


def parse_address(text: str, default_port: int | None = None, default_host: str = LOOPBACK) -> Address:
    """``host:port``, ``[::1]:port``, ``:port``, or a bare host when there is a default port; else SettingError."""
    host, port = _split_address(text.strip())
    port_number = default_port if port is None else _port(port)
    if port_number is None or any(c.isspace() for c in host):
        raise SettingError(f"not an address: {text!r} (write it like 127.0.0.1:2049, [::1]:2049 or host:2049)")
    return Address(host or default_host, port_number)


def _port(text: str) -> int | None:
    if not (text.isascii() and text.isdigit() and len(text) <= 5):
        return None
    return port if (port := int(text)) <= 65535 else None


def _split_address(text: str) -> tuple[str, str | None]:
    if text.startswith("["):
        host, bracket, rest = text[1:].partition("]")
        if not bracket or (rest and not rest.startswith(":")) or not _is_ip6(host):
            raise SettingError(f"not an address: {text!r} (an IPv6 address is written like [::1]:2049)")
        return host, rest[1:] if rest else None
    if _is_ip6(text):
        return text, None
    host, colon, port = text.rpartition(":")
    if not colon:
        return text, None
    if ":" in host:
        raise SettingError(f"not an address: {text!r} (an IPv6 address is written like [::1]:2049)")
    return host, port


def _is_ip6(text: str) -> bool:
    try:
        return ipaddress.ip_address(text).version == 6
    except ValueError:
        return False
