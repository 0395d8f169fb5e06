"""The control token: a secret in a file that only its owner may read.

The control service can skip hooks and drop caches, so off loopback it asks for this token. It travels in the call's
metadata as ``authorization: Bearer TOKEN``.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import stat
import tempfile
from pathlib import Path

from freepage_runtime.errors import UserError

METADATA_KEY = "authorization"
_SCHEME = "Bearer "
_TOKEN_BYTES = 32
_MIN_LENGTH = 32


def metadata_value(token: str) -> str:
    """What to send under METADATA_KEY."""
    return _SCHEME + token


def load_or_create(path: Path) -> str:
    """The token in ``path``, which is made (0600) when there is none; two processes that race agree on one."""
    try:
        return load(path)
    except FileNotFoundError:
        pass
    try:
        descriptor, temporary = tempfile.mkstemp(prefix=".token-", dir=path.parent)  # mode 0600
    except OSError as error:
        raise UserError(f"cannot make the token file {path}: {error.strerror}") from error
    try:
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(secrets.token_urlsafe(_TOKEN_BYTES) + "\n")
        with contextlib.suppress(FileExistsError):
            os.link(temporary, path)  # unlike rename, it fails when somebody was first: then theirs counts
    finally:
        Path(temporary).unlink()
    return load(path)


def load(path: Path) -> str:
    """The token in ``path``. Raises FileNotFoundError, or UserError when others may read it or it is no token."""
    try:
        opened = path.open(encoding="ascii", errors="replace")
    except FileNotFoundError:
        raise
    except OSError as error:
        raise UserError(f"cannot read the token file {path}: {error.strerror}") from error
    with opened as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise UserError(f"the token file {path} is not a regular file")
        if status.st_mode & 0o077:
            raise UserError(f"the token file {path} can be read by others (chmod 600 it)")
        token = file.read().strip()
    if len(token) < _MIN_LENGTH or not token.isascii() or not token.isprintable() or " " in token:
        raise UserError(f"the token file {path} holds no token (remove it, and a new one will be made)")
    return token


def matches(given: str | None, expected: str) -> bool:
    """Whether ``given`` (the token, or the metadata's ``Bearer TOKEN``) is the token, in time that tells nothing."""
    if given is None:
        return False
    return secrets.compare_digest(given.removeprefix(_SCHEME).encode("utf-8"), expected.encode("utf-8"))
