from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from freepage_runtime import token
from freepage_runtime.errors import UserError


def test_a_token_is_made_once_and_private(tmp_path: Path) -> None:
    path = tmp_path / "token"
    made = token.load_or_create(path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert len(made) >= 32
    assert token.load_or_create(path) == token.load(path) == made
    assert token.load_or_create(tmp_path / "other") != made
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["other", "token"]


def test_racers_agree_on_one_token(tmp_path: Path) -> None:
    barrier, tokens = threading.Barrier(4), []

    def race() -> None:
        barrier.wait()
        tokens.append(token.load_or_create(tmp_path / "token"))

    threads = [threading.Thread(target=race) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(tokens) == 4
    assert len(set(tokens)) == 1


def test_a_token_that_others_may_read_or_that_is_none_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "token"
    token.load_or_create(path)
    path.chmod(0o640)
    with pytest.raises(UserError, match="can be read by others"):
        token.load(path)
    path.chmod(0o600)
    for text in ("", "short", "a" * 40 + " b", "ä" * 40):
        path.write_text(text, encoding="utf-8")
        with pytest.raises(UserError, match="holds no token"):
            token.load(path)
    with pytest.raises(UserError, match="not a regular file"):
        token.load(Path(os.devnull))
    with pytest.raises(FileNotFoundError):
        token.load(tmp_path / "gone")


def test_matching() -> None:
    secret = "s" * 43
    assert token.matches(secret, secret)
    assert token.matches(token.metadata_value(secret), secret)
    assert not any(
        token.matches(given, secret) for given in (None, "", "Bearer ", "s" * 42, "ß" * 43, "Basic " + secret)
    )
