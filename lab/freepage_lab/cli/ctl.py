"""Commands that change running daemons: ``freepage ctl ...``."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from freepage_lab.cli.app import ctl
from freepage_lab.cli.options import (
    AddressOption,
    NameOption,
    RoleOption,
    TokenOption,
    memory_or_none,
)


class PageChange(StrEnum):
    """What ``freepage ctl replace`` does to pages."""

    REPLACE = "replace"
    MIGRATE = "migrate"
    POISON = "poison"


@ctl.command("hooks")
def ctl_hooks(
    rules: Annotated[
        list[str] | None,
        typer.Argument(metavar="RULE", help="PATH=run, PATH=skip, PATH=skip:every=3, all=run. None: show the policy."),
    ] = None,
    address: AddressOption = [],  # noqa: B006
    name: NameOption = [],  # noqa: B006
    role: RoleOption = None,
    token_file: TokenOption = None,
) -> None:
    """Show or set on which removal paths the freepage hook runs."""
    from freepage_lab import admin

    admin.hooks(admin.Choice(address, name, role, token_file), rules or [])


@ctl.command("drop-caches")
def ctl_drop_caches(
    what: Annotated[
        int, typer.Argument(metavar="WHAT", min=1, max=3, help="1: clean pages; 2: dentries and inodes; 3: both.")
    ] = 1,
    address: AddressOption = [],  # noqa: B006
    name: NameOption = [],  # noqa: B006
    role: RoleOption = None,
    token_file: TokenOption = None,
) -> None:
    """echo WHAT > /proc/sys/vm/drop_caches."""
    from freepage_lab import admin

    admin.drop_caches(admin.Choice(address, name, role, token_file), what)


@ctl.command("sync")
def ctl_sync(
    address: AddressOption = [],  # noqa: B006
    name: NameOption = [],  # noqa: B006
    role: RoleOption = None,
    token_file: TokenOption = None,
) -> None:
    """Write back everything dirty, and wait for it."""
    from freepage_lab import admin

    admin.sync(admin.Choice(address, name, role, token_file))


@ctl.command("resize")
def ctl_resize(
    size: Annotated[str, typer.Argument(metavar="SIZE|none", help="New memory limit of the page cache.")],
    address: AddressOption = [],  # noqa: B006
    name: NameOption = [],  # noqa: B006
    role: RoleOption = None,
    token_file: TokenOption = None,
) -> None:
    """Change the memory limit; pages over the new one are reclaimed at once."""
    from freepage_lab import admin

    admin.resize(admin.Choice(address, name, role, token_file), memory_or_none(size))


@ctl.command("replace")
def ctl_replace(
    path: Annotated[str, typer.Argument(metavar="PATH", help="Absolute path of a file in the client's mounts.")],
    first: Annotated[int, typer.Option("--first", metavar="INDEX", min=0, help="Index of the first page.")] = 0,
    count: Annotated[int, typer.Option("--count", metavar="N", min=1, help="How many pages.")] = 1,
    change: Annotated[
        PageChange,
        typer.Option("--how", metavar="HOW", help="replace; migrate: move contents and objects; poison: bad memory."),
    ] = PageChange.REPLACE,
    address: AddressOption = [],  # noqa: B006
    name: NameOption = [],  # noqa: B006
    token_file: TokenOption = None,
) -> None:
    """Put new pages with the same data in the place of a file's cached ones."""
    from freepage_lab import admin

    admin.replace(admin.Choice(address, name, None, token_file), path, first, count, change.value)


@ctl.command("fault")
def ctl_fault(
    fault: Annotated[
        str | None,
        typer.Argument(
            metavar="FAULT", help="NAME[:path=P][:every=N][:probability=X][:index=A-B], or off. None: show all."
        ),
    ] = None,
    address: AddressOption = [],  # noqa: B006
    name: NameOption = [],  # noqa: B006
    role: RoleOption = None,
    token_file: TokenOption = None,
) -> None:
    """Show the life-cycle faults that can be injected, or arm one."""
    from freepage_lab import admin

    admin.fault(admin.Choice(address, name, role, token_file), fault)


@ctl.command("locks")
def ctl_locks(
    free: Annotated[
        str | None,
        typer.Option("--free", metavar="CLIENT", help="Take all locks of this client away, for it never comes back."),
    ] = None,
    address: AddressOption = [],  # noqa: B006
    name: NameOption = [],  # noqa: B006
    token_file: TokenOption = None,
) -> None:
    """Show the locks that clients hold on servers, as /proc/locks does; or free a dead client's (Linux: unlock_ip)."""
    from freepage_lab import admin

    admin.locks(admin.Choice(address, name, "server", token_file), free)


@ctl.command("mount")
def ctl_mount(
    source: Annotated[str, typer.Argument(metavar="HOST:PORT:/EXPORT", help="What to mount.")],
    mountpoint: Annotated[str, typer.Argument(metavar="/MNT", help="Where.")],
    options: Annotated[str, typer.Option("--options", "-o", metavar="OPTIONS", help="As in nfs(5).")] = "",
    address: AddressOption = [],  # noqa: B006
    name: NameOption = [],  # noqa: B006
    token_file: TokenOption = None,
) -> None:
    """Mount an export on a running client."""
    from freepage_lab import admin

    admin.mount(admin.Choice(address, name, "client", token_file), source, mountpoint, options)


@ctl.command("umount")
def ctl_umount(
    mountpoint: Annotated[str, typer.Argument(metavar="/MNT", help="Which mount.")],
    address: AddressOption = [],  # noqa: B006
    name: NameOption = [],  # noqa: B006
    token_file: TokenOption = None,
) -> None:
    """Unmount, and name what is left of the mount: the leak's knock-on effects."""
    from freepage_lab import admin

    admin.umount(admin.Choice(address, name, "client", token_file), mountpoint)
