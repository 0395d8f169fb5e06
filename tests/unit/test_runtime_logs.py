from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator

import pytest

from freepage_runtime.errors import SettingError
from freepage_runtime.logs import configure, fields

log = logging.getLogger("freepage_test")


@pytest.fixture(autouse=True)
def keep_the_root_logger() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


def test_text_for_people() -> None:
    stream = io.StringIO()
    configure(stream=stream, daemon="client-1")
    log.info("mounted %s", "/mnt", extra=fields(server="s1", export="/srv"))
    log.debug("not at this level")
    when, line = stream.getvalue().split(" ", 1)
    assert len(when) == len("12:00:00.123")
    assert line == "INFO client-1: mounted /mnt  server=s1 export=/srv\n"


def test_json_for_machines() -> None:
    stream = io.StringIO()
    configure(stream=stream, format="json", daemon="client-1", level="debug")
    log.debug("mounted", extra=fields(server="s1", pages=3, path=b"/x", message="not the message"))
    entry = json.loads(stream.getvalue())
    assert entry.pop("time").endswith("+00:00")
    assert entry == {
        "level": "debug",
        "logger": "freepage_test",
        "daemon": "client-1",
        "message": "mounted",
        "server": "s1",
        "pages": 3,
        "path": "b'/x'",
    }


@pytest.mark.parametrize("format", ["text", "json"])
def test_secrets_stay_out(format: str) -> None:
    stream = io.StringIO()
    configure(stream=stream, format=format)
    log.warning("token read", extra=fields(token="hunter2", control_token="hunter2", private_key="hunter2", keys=1))
    assert "hunter2" not in stream.getvalue()
    assert "keys" in stream.getvalue()


@pytest.mark.parametrize("format", ["text", "json"])
def test_a_file_name_cannot_forge_a_record(format: str) -> None:
    stream = io.StringIO()
    configure(stream=stream, format=format)
    log.info("opened %s", "a\n12:00 ERROR", extra=fields(path="b\r\nc"))
    assert stream.getvalue().count("\n") == 1


@pytest.mark.parametrize("format", ["text", "json"])
def test_an_exception_comes_with_its_traceback(format: str) -> None:
    stream = io.StringIO()
    configure(stream=stream, format=format)
    try:
        raise ValueError("x")
    except ValueError:
        log.exception("failed")
    assert "ValueError: x" in stream.getvalue()


def test_configuring_again_replaces() -> None:
    first, second = io.StringIO(), io.StringIO()
    configure(stream=first)
    configure(stream=second)
    log.info("once")
    assert first.getvalue() == ""
    assert second.getvalue().count("once") == 1


def test_unknown_settings() -> None:
    with pytest.raises(SettingError, match="not a log level: 'loud'"):
        configure(level="loud")
    with pytest.raises(SettingError, match="not a log format: 'xml'"):
        configure(format="xml")
