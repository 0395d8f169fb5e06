"""Mount options: nfs(5)'s defaults, clamping and complaints."""

from __future__ import annotations

import pytest

from freepage_client.nfs.options import BadMountOption, block_size, io_size, parse_mount_options


def test_defaults_are_linux() -> None:
    options = parse_mount_options("")
    assert (options.acregmin_s, options.acregmax_s, options.acdirmin_s, options.acdirmax_s) == (3, 60, 30, 60)
    assert (options.timeo_ds, options.retrans) == (600, 2)
    assert options.cto and options.rdirplus and options.acl and not options.soft and not options.sync
    assert options.read_ahead_kb == 128


def test_later_options_win_and_actimeo_sets_all_four() -> None:
    options = parse_mount_options("acregmin=1,actimeo=7,acdirmax=9,noac,ac")
    assert (options.acregmin_s, options.acregmax_s, options.acdirmin_s, options.acdirmax_s) == (7, 7, 7, 9)
    assert not options.noac


def test_noac_is_sync_too() -> None:
    assert parse_mount_options("noac").sync
    assert parse_mount_options("noac,async").sync
    assert not parse_mount_options("noac,ac").sync
    assert not parse_mount_options("actimeo=0").sync


def test_the_last_of_hard_and_soft_decides_and_hard_takes_softreval_back() -> None:
    options = parse_mount_options("softerr")
    assert options.softerr and options.softreval and not options.soft
    options = parse_mount_options("softerr,hard")
    assert not (options.softerr or options.softreval or options.soft)
    assert parse_mount_options("hard,softreval").softreval


def test_what_changes_nothing_here_is_accepted_as_linux_does() -> None:
    text = "bg,intr,nointr,retry=2,noposix,nofsc,nomigration,trunkdiscovery,mounthost=x,port=2049,resvport,tcp,v3"
    assert parse_mount_options(text) == parse_mount_options("")


def test_nolock_keeps_both_kinds_of_locks_here() -> None:
    options = parse_mount_options("nolock")
    assert options.local_flock and options.local_fcntl
    options = parse_mount_options("local_lock=posix")
    assert options.local_fcntl and not options.local_flock


def test_local_lock_adds_to_what_is_local_and_none_takes_all_away() -> None:
    options = parse_mount_options("nolock,local_lock=posix")
    assert options.local_fcntl and options.local_flock, "Linux only sets the one flag"
    options = parse_mount_options("local_lock=flock,local_lock=posix")
    assert options.local_fcntl and options.local_flock
    options = parse_mount_options("nolock,local_lock=none")
    assert not options.local_fcntl and not options.local_flock


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("rszie=4096", "unknown mount option 'rszie'"),
        ("fast", "unknown mount option 'fast'"),
        ("rsize=big", "bad value in 'rsize=big'"),
        ("rsize=-1", "bad value in 'rsize=-1'"),
        ("timeo=0", "'timeo' out of range"),
        ("retrans=99999999999", "'retrans' out of range"),
        ("timeo=2147483648", "'timeo' out of range"),
        ("port=65536", "'port' out of range"),
        ("acregmin=4294967296", "'acregmin' out of range"),
        ("vers=4.2", "'vers=4.2' is not emulated; use vers=3"),
        ("proto=udp", "'proto=udp' is not emulated; use proto=tcp"),
        ("sec=krb5", "'sec=krb5' is not emulated; use sec=sys"),
        ("lookupcache=some", "lookupcache is all, pos or none"),
        ("local_lock=some", "local_lock is all, flock, posix or none"),
    ],
)
def test_what_mount_would_refuse_is_refused_in_one_line(text: str, complaint: str) -> None:
    with pytest.raises(BadMountOption, match=complaint) as caught:
        parse_mount_options(text)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("wanted", "got"),
    [(1, 4096), (1023, 4096), (1024, 1024), (1500, 1024), (3000, 2048), (4096, 4096), (5000, 4096), (65537, 65536)],
)
def test_io_sizes_are_clamped_as_nfs_io_size_does(wanted: int, got: int) -> None:
    assert io_size(wanted) == got


def test_io_size_is_at_most_a_mebibyte() -> None:
    assert io_size(1 << 30) == 1 << 20
    assert block_size(3 << 19) == 1 << 20
    assert block_size(70_000) == 65536
