"""Logs for people (one line of text) or for machines (one JSON object a line), on stderr, without secrets."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, TextIO

from freepage_runtime.errors import SettingError

LEVELS = ("debug", "info", "warning", "error")
FORMATS = ("text", "json")

_SECRET_WORDS = ("token", "secret", "password", "authorization", "private", "key")
_FIELDS = "freepage_fields"


def fields(**values: object) -> dict[str, Mapping[str, object]]:
    """Named values beside the message: ``log.info("mounted", extra=fields(server="s1", export="/srv"))``.

    A value whose name speaks of a secret is written as ``***``, so that no caller can log one by accident.
    """
    return {_FIELDS: {name: "***" if _is_secret(name) else value for name, value in values.items()}}


def _is_secret(name: str) -> bool:
    return any(word in _SECRET_WORDS for word in name.lower().split("_"))


def _fields_of(record: logging.LogRecord) -> Mapping[str, object]:
    values: Mapping[str, object] = getattr(record, _FIELDS, {})
    return values


class TextFormatter(logging.Formatter):
    """``12:00:00.123 INFO server-1: mounted  export=/srv client=c1``."""

    def __init__(self, daemon: str = "") -> None:
        super().__init__()
        self._daemon = f"{daemon}: " if daemon else ""

    def format(self, record: logging.LogRecord) -> str:
        when = datetime.fromtimestamp(record.created).strftime("%H:%M:%S.%f")[:-3]
        # One record is one line: a newline in a file name must not forge another record.
        message = _one_line(record.getMessage())
        named = "".join(f" {name}={_one_line(str(value))}" for name, value in _fields_of(record).items())
        text = f"{when} {record.levelname} {self._daemon}{message}{' ' if named else ''}{named}"
        if record.exc_info:
            text += "\n" + self.formatException(record.exc_info)
        return text


class JsonFormatter(logging.Formatter):
    """One object a line: ``time`` (UTC, RFC 3339), ``level``, ``daemon``, ``logger``, ``message``, and the fields."""

    def __init__(self, daemon: str = "") -> None:
        super().__init__()
        self._daemon = daemon

    def format(self, record: logging.LogRecord) -> str:
        entry: dict[str, Any] = dict(_fields_of(record))
        entry |= {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if self._daemon:
            entry["daemon"] = self._daemon
        if record.exc_info:
            entry["exception"] = self.formatException(record.exc_info)
        return json.dumps(entry, default=str)


def _one_line(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\n", "\\n").replace("\r", "\\r")


def configure(
    *, level: str = "info", format: str = "text", stream: TextIO | None = None, daemon: str = ""
) -> logging.Handler:
    """Send every logger of the process to ``stream`` (stderr) in one format; replaces what was set up before.

    Raises SettingError for an unknown level or format.
    """
    if level not in LEVELS:
        raise SettingError(f"not a log level: {level!r} (one of {', '.join(LEVELS)})")
    if format not in FORMATS:
        raise SettingError(f"not a log format: {format!r} (one of {', '.join(FORMATS)})")
    handler = logging.StreamHandler(stream if stream is not None else sys.stderr)
    handler.setFormatter(JsonFormatter(daemon) if format == "json" else TextFormatter(daemon))
    root = logging.getLogger()
    for old in list(root.handlers):
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(level.upper())
    return handler
