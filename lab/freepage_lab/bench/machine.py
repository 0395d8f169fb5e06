"""What the figures were measured on, in a line."""

from __future__ import annotations

import os
import platform
import re
from importlib.metadata import version
from pathlib import Path


def machine() -> dict[str, str]:
    """Processor, system, and the versions that matter to the figures."""
    return {
        "processor": _processor(),
        "processors": str(os.cpu_count() or 1),
        "system": f"{platform.system()} {platform.release()}",
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "grpcio": version("grpcio"),
        "protobuf": version("protobuf"),
    }


def describe() -> str:
    """One line for people."""
    m = machine()
    return (
        f"{m['processor']} ({m['processors']} processors), {m['system']}, {m['python']}, "
        f"grpcio {m['grpcio']}, protobuf {m['protobuf']}"
    )


def _processor() -> str:
    try:
        found = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    except OSError:
        found = None
    return found[1].strip() if found else platform.processor() or platform.machine()
