"""Write errors: reported once to each opener."""

from __future__ import annotations

import errno

import freepage as fp


def test_each_opener_sees_an_error_once() -> None:
    seq = fp.ErrSeq()
    first, second = seq.sample(), seq.sample()
    seq.set(errno.ENOSPC)
    assert seq.check(first) == errno.ENOSPC
    error, first = seq.check_and_advance(first)
    assert error == errno.ENOSPC
    assert seq.check_and_advance(first) == (0, first)
    assert seq.check_and_advance(second)[0] == errno.ENOSPC


def test_an_error_nobody_has_seen_is_reported_to_the_next_opener() -> None:
    seq = fp.ErrSeq()
    seq.set(errno.EIO)
    late = seq.sample()
    assert late == 0 and seq.check_and_advance(late)[0] == errno.EIO
    after = seq.sample()
    assert seq.check(after) == 0


def test_the_same_error_again_is_news_once_it_was_seen() -> None:
    seq = fp.ErrSeq()
    seq.set(errno.EIO)
    _, since = seq.check_and_advance(0)
    value = seq.value
    seq.set(errno.EIO)
    assert seq.value != value
    assert seq.check_and_advance(since)[0] == errno.EIO
    unseen = fp.ErrSeq()
    unseen.set(errno.EIO)
    value = unseen.value
    unseen.set(errno.EIO)
    assert unseen.value == value
