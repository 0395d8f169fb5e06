"""``freepage report``: reads the documents, recognises each by its fields, and writes the page."""

from __future__ import annotations

import json
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any

from freepage_lab.outputs import check_output
from freepage_lab.report import plots
from freepage_lab.report.of import bench, conform, demo, load, soak
from freepage_lab.report.page import Section, page
from freepage_runtime.errors import UserError

KINDS: dict[str, tuple[set[str], Callable[[dict[str, Any], str], Section]]] = {
    "demo": (demo.FIELDS, demo.section),
    "load": (load.FIELDS, load.section),
    "conform": (conform.FIELDS, conform.section),
    "bench": (bench.FIELDS, bench.section),
    "soak": (soak.FIELDS, soak.section),
}
MOST_BYTES = 256 << 20
"""A larger document is not one of ours."""


def report(files: Sequence[Path], output: Path, title: str) -> int:
    """Write ``output`` and return its size in bytes. Raises UserError; then ``output`` is as it was before."""
    plots.check_library()
    check_output(output)
    sections = [_section(file) for file in files]
    made = f"freepage {version('freepage')}, {time.strftime('%Y-%m-%d %H:%M %Z')}"
    text = page(title, made, sections).encode()
    _replace(output, text)
    return len(text)


def _section(file: Path) -> Section:
    try:
        if file.stat().st_size > MOST_BYTES:
            raise UserError(f"{file} is larger than {MOST_BYTES >> 20} MiB")
        data = json.loads(file.read_bytes())
    except OSError as error:
        raise UserError(f"{file}: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise UserError(f"{file} is not JSON: {error}") from None
    for command, (fields, section) in KINDS.items():
        if isinstance(data, dict) and fields <= data.keys():
            try:
                return section(data, file.name)
            except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
                why = f"{type(error).__name__}: {error}"
                raise UserError(f"{file} is not as freepage {command} --json writes it ({why})") from error
    raise UserError(f"{file} is not what freepage {', '.join(KINDS)} write with --json")


def _replace(output: Path, text: bytes) -> None:
    """All of the new file, or the old one."""
    temporary = None
    try:
        fd, temporary = tempfile.mkstemp(prefix=f".{output.name}.", dir=output.absolute().parent)
        with os.fdopen(fd, "wb") as stream:
            os.fchmod(stream.fileno(), 0o666 & ~_umask())
            stream.write(text)
        Path(temporary).replace(output)
    except OSError as error:
        if temporary is not None:
            with suppress(OSError):
                Path(temporary).unlink()
        raise UserError(f"cannot write {output}: {error.strerror}") from None


def _umask() -> int:
    mask = os.umask(0o077)
    os.umask(mask)
    return mask
