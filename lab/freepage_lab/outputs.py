"""Files that commands write at their end: whether they can is asked at the beginning, before the work of an hour."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from freepage_runtime.errors import UserError


def check_output(file: Path | None) -> None:
    """Raises UserError when ``file`` could not be written now; nothing is written or made. None: nothing is asked."""
    if file is None:
        return
    directory = file.parent
    if not directory.is_dir():
        raise UserError(f"cannot write {file}: there is no such directory")
    if file.is_dir():
        raise UserError(f"cannot write {file}: {os.strerror(errno.EISDIR)}")
    if not os.access(file if file.exists() else directory, os.W_OK):
        raise UserError(f"cannot write {file}: {os.strerror(errno.EACCES)}")


def write_output(file: Path | None, text: str) -> None:
    """Raises UserError. None: the user wants no such file."""
    if file is None:
        return
    try:
        file.write_text(text)
    except OSError as error:
        raise UserError(f"cannot write {file}: {error.strerror}") from error
