"""The cluster's files are accepted by the tools that will read them. Whether the cluster runs is tests/e2e's matter."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import typer.main

from freepage_lab import cli

ROOT = Path(__file__).parents[2]


def compose(require_tool: Callable[..., str], *args: str) -> str:
    command = require_tool("docker-compose", debian="docker-compose")
    # The oldest Compose that is supported runs with an old Python library that speaks to no engine here.
    environment = {**os.environ, "DOCKER_HOST": "unix:///nonexistent"}
    run = subprocess.run([command, *args], cwd=ROOT, capture_output=True, text=True, check=False, env=environment)
    assert run.returncode == 0, run.stderr
    assert "warn" not in run.stderr.lower(), run.stderr
    return run.stdout


def test_compose_accepts_the_cluster(require_tool: Callable[..., str]) -> None:
    services = compose(require_tool, "-f", "docker-compose.yml", "config", "--services").split()
    assert sorted(services) == ["client", "prometheus", "server"]


def test_the_compose_file_has_no_top_level_name_or_version() -> None:
    """Compose 1.29 rejects the one, Compose 2 warns of the other."""
    keys = re.findall(r"^(\w+):", (ROOT / "docker-compose.yml").read_text(), re.MULTILINE)
    assert keys == ["services", "volumes"]


def test_the_cluster_starts_the_daemons_with_options_that_they_have() -> None:
    text = (ROOT / "docker-compose.yml").read_text()
    commands = re.findall(r"^    command: >-\n((?:      .+\n)+)", text, re.MULTILINE)
    group = typer.main.get_group(cli.app)
    assert len(commands) == 2
    for command in commands:
        name, *arguments = command.split()
        context = typer.Context(group.commands[name])
        with context:
            group.commands[name].parse_args(context, arguments)


def test_prometheus_accepts_its_configuration(require_tool: Callable[..., str]) -> None:
    promtool = require_tool("promtool", debian="prometheus")
    config = ROOT / "deploy" / "prometheus" / "prometheus.yml"
    run = subprocess.run([promtool, "check", "config", config], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout + run.stderr


def test_the_image_is_built_from_files_that_exist() -> None:
    dockerfile = (ROOT / "deploy" / "Dockerfile").read_text()
    allowed = {
        line.removeprefix("!") for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")
    }
    copied = set()
    for sources in re.findall(r"^COPY (?!--from)(.+) \S+$", dockerfile, re.MULTILINE):
        copied |= set(sources.split())
    assert copied == allowed
    for name in copied:
        assert (ROOT / name).exists(), name


def test_the_image_asks_the_page_that_daemons_serve() -> None:
    dockerfile = (ROOT / "deploy" / "Dockerfile").read_text()
    (check,) = re.findall(r"^  CMD (\[.*\])$", dockerfile, re.MULTILINE)
    assert "http://127.0.0.1:9464/healthz" in json.loads(check)[-1]
    assert "EXPOSE 2049 9464" in dockerfile
