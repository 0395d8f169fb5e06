"""Mistakes of the person at the keyboard, as opposed to ours: one clear line and a non-zero exit, no traceback."""

from __future__ import annotations


class UserError(Exception):
    """Something the user can put right; ``str(error)`` is the whole line that the command prints."""

    exit_code = 1


class SettingError(UserError, ValueError):
    """A setting that cannot be understood. Its exit code is the shell's for wrong usage."""

    exit_code = 2
