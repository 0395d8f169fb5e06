"""Commands that try something out and report: demo, conform, story, bench, soak, load."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from freepage_lab.cli.app import PANEL_LAB, app
from freepage_lab.cli.options import (
    AddressOption,
    JsonFlag,
    MetricsOption,
    NameOption,
    SeedOption,
    TokenOption,
    address_or_none,
)


@app.command(rich_help_panel=PANEL_LAB)
def demo(
    clients: Annotated[int, typer.Option("--clients", metavar="N", min=2, max=64, help="Client processes.")] = 3,
    servers: Annotated[int, typer.Option("--servers", metavar="N", min=1, max=16, help="Server processes.")] = 2,
    cache: Annotated[str, typer.Option("--cache", metavar="SIZE", help="Page cache of each process.")] = "4MiB",
    seconds: Annotated[
        float, typer.Option("--seconds", metavar="S", min=0.0, help="Least duration of each of the four phases.")
    ] = 8.0,
    seed: Annotated[int, typer.Option("--seed", metavar="N", help="Seed of the workload.")] = 1,
    json_file: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Write the figures there as well.")
    ] = None,
    hold: Annotated[bool, typer.Option("--hold", help="Go on after the summary, until Ctrl-C.")] = False,
    export: Annotated[
        Path | None,
        typer.Option("--export", metavar="DIR", help="Export a copy of DIR (default: Python's standard library)."),
    ] = None,
) -> None:
    """A real cluster on this machine: the hook at work, and the leak when it is skipped."""
    from freepage_lab.demo.command import Options
    from freepage_lab.demo.command import demo as run_demo
    from freepage_runtime.settings import parse_size

    options = Options(clients, servers, parse_size(cache), seconds, seed, json_file, hold, export)
    raise typer.Exit(0 if run_demo(options) else 1)


@app.command(rich_help_panel=PANEL_LAB)
def conform(
    workloads: Annotated[Path, typer.Option("--workloads", metavar="DIR", help="Directory of NAME.json workloads.")],
    truth: Annotated[Path, typer.Option("--truth", metavar="DIR", help="Directory of NAME.json recordings.")],
    names: Annotated[list[str] | None, typer.Argument(metavar="NAME", help="Only these workloads.")] = None,
    json_file: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Write the comparison there as well.")
    ] = None,
    transport: Annotated[
        str, typer.Option("--transport", metavar="WIRE", help="sim (virtual time) or grpc (real servers, real time).")
    ] = "sim",
    jobs: Annotated[
        int | None, typer.Option("--jobs", "-j", metavar="N", min=1, help="Workloads at a time (default: processors).")
    ] = None,
) -> None:
    """Run workloads and compare, call for call, with what a real Linux client did."""
    from freepage_lab.conform.command import conform as run_conform

    equal = run_conform(workloads, truth, names or (), json_file=json_file, transport=transport, jobs=jobs)
    raise typer.Exit(0 if equal else 1)


@app.command(rich_help_panel=PANEL_LAB)
def story(
    name: Annotated[str | None, typer.Argument(metavar="NAME", help="Which one; without: the list.")] = None,
    files: Annotated[
        int, typer.Option("--files", metavar="N", min=1, help="Files in the directory that is listed.")
    ] = 110,
    listings: Annotated[int, typer.Option("--listings", metavar="N", min=1, help="How often it is listed.")] = 3,
    json_output: JsonFlag = False,
) -> None:
    """Replay a leak from the kernel's own history, with its published numbers."""
    from freepage_lab.story.command import story as tell

    tell(name, files=files, listings=listings, as_json=json_output)


@app.command(rich_help_panel=PANEL_LAB)
def bench(
    groups: Annotated[
        list[str] | None,
        typer.Argument(metavar="GROUP", help="Only these: hit, insert, lru, memory, wire, client, server, mount."),
    ] = None,
    json_file: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Write the figures there as well.")
    ] = None,
    rounds: Annotated[int, typer.Option("--rounds", metavar="N", help="Interleaved rounds of each row.")] = 11,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print the table as docs/benchmarks.md has it.")] = False,
    check: Annotated[bool, typer.Option("--check", help="Exit with 1 when a row is below its floor.")] = False,
    tiny: Annotated[bool, typer.Option("--tiny", hidden=True)] = False,
) -> None:
    """Measure speed as ratios to something everybody knows, in one run."""
    from freepage_lab.bench.command import bench as run_bench

    outcomes = run_bench(groups or (), rounds=rounds, json_file=json_file, as_markdown=markdown, tiny=tiny)
    failed = any(outcome.broke or (check and outcome.row is not None and not outcome.row.ok) for outcome in outcomes)
    raise typer.Exit(1 if failed else 0)


@app.command(rich_help_panel=PANEL_LAB)
def soak(
    parts: Annotated[
        list[str] | None,
        typer.Argument(metavar="PART", help="Only these: clients, confinement, crash, crowd, fuzz, network."),
    ] = None,
    seed: Annotated[
        int | None, typer.Option("--seed", metavar="N", help="Repeats a run (default: by chance, and printed).")
    ] = None,
    scale: Annotated[float, typer.Option("--scale", metavar="X", min=0.001, help="1 is the full length.")] = 1.0,
    json_file: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Write the figures there as well.")
    ] = None,
) -> None:
    """Real servers, clients and networks that fail: which promises hold, with figures."""
    from freepage_lab.soak.command import soak as run_soak

    raise typer.Exit(0 if run_soak(parts or (), seed=seed, scale=scale, json_file=json_file) else 1)


@app.command(rich_help_panel=PANEL_LAB)
def load(
    profile: Annotated[
        str | None, typer.Argument(metavar="PROFILE|FILE.toml", help="What to do; --list shows the profiles.")
    ] = None,
    address: AddressOption = [],  # noqa: B006
    name: NameOption = [],  # noqa: B006
    discover: Annotated[
        str | None, typer.Option("--discover", metavar="dns:NAME:PORT", help="Clients by a DNS name, looked up anew.")
    ] = None,
    token_file: TokenOption = None,
    path: Annotated[
        str | None, typer.Option("--path", metavar="/MNT/DIR", help="Where on the clients (default: a common mount).")
    ] = None,
    duration: Annotated[
        str | None, typer.Option("--duration", metavar="TIME|forever", help="30s, 5m, 1h; default: the profile's.")
    ] = None,
    operations: Annotated[
        int | None, typer.Option("--operations", metavar="N", min=1, help="End after so many instead.")
    ] = None,
    rate: Annotated[
        float | None,
        typer.Option("--rate", metavar="N", min=0.0, help="Open loop: operations a second, all together; 0: closed."),
    ] = None,
    workers: Annotated[
        int | None, typer.Option("--workers", "-w", metavar="N", min=1, max=1024, help="Programs on each client.")
    ] = None,
    think: Annotated[str | None, typer.Option("--think", metavar="TIME", help="Mean pause between operations.")] = None,
    verify: Annotated[bool | None, typer.Option("--verify/--no-verify", help="Check what is read.")] = None,
    processes: Annotated[int, typer.Option("--processes", metavar="N", min=1, max=64, help="Generator processes.")] = 1,
    seed: SeedOption = None,
    wait: Annotated[str, typer.Option("--wait", metavar="TIME", help="How long clients may take to answer.")] = "0s",
    metrics: MetricsOption = "none",
    json_file: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Write the result there as well.")
    ] = None,
    csv_file: Annotated[
        Path | None, typer.Option("--csv", metavar="FILE", help="Write the latencies there as well.")
    ] = None,
    fail_if: Annotated[
        list[str], typer.Option("--fail-if", metavar="EXPR", help="'p99_ms>50', 'orphans>0', ... (repeatable).")
    ] = [],  # noqa: B006
    keep: Annotated[bool, typer.Option("--keep", help="Leave the files there.")] = False,
    demo: Annotated[bool, typer.Option("--demo", help="On a server and two clients of its own.")] = False,
    list_: Annotated[bool, typer.Option("--list", help="List the profiles and end.")] = False,
    show: Annotated[bool, typer.Option("--show", help="Print the profile as TOML and end.")] = False,
) -> None:
    """Put running clients under load, and measure: latency, throughput, RPC mix, hit ratio, errors, orphans."""
    from rich.console import Console

    from freepage_lab.load import command
    from freepage_lab.load.profile import load_profile
    from freepage_runtime.errors import SettingError
    from freepage_runtime.settings import parse_duration

    if list_ or profile is None:
        command.list_profiles(Console(highlight=False))
        if list_:
            raise typer.Exit
        raise SettingError("say which of these profiles, or a FILE.toml of your own")
    if show:
        typer.echo(load_profile(profile).source, nl=False)
        raise typer.Exit
    options = command.Options(
        profile=profile,
        where=command.make_where(address, name, discover, demo),
        token_file=token_file,
        path=path,
        seed=seed,
        duration=duration,
        operations=operations,
        rate=rate,
        workers=workers,
        think=think,
        verify=verify,
        processes=processes,
        wait_s=parse_duration(wait),
        metrics=address_or_none(metrics),
        json_file=json_file,
        csv_file=csv_file,
        fail_if=tuple(fail_if),
        keep=keep,
        demo=demo,
    )
    raise typer.Exit(command.load(options))


@app.command(rich_help_panel=PANEL_LAB)
def report(
    files: Annotated[list[Path], typer.Argument(metavar="FILE.json", help="What commands wrote with --json.")],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FILE", help="The page.")] = Path("report.html"),
    title: Annotated[str, typer.Option("--title", metavar="TEXT", help="Its heading.")] = "freepage",
) -> None:
    """Make one HTML file with plots, to be mailed, of what demo, load, conform, bench and soak wrote with --json."""
    from freepage_lab.report.command import report as make_report

    size = make_report(files, output, title)
    typer.echo(f"{output}: {len(files)} documents, {size / 1024:.0f} KiB", err=True)
