"""The cluster's files are accepted by the tools that will read them. Whether the cluster runs is tests/e2e's matter."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import typer.main
import yaml

from freepage_lab.cli import command as cli
from freepage_lab.cluster.prepare import main as prepare

ROOT = Path(__file__).parents[2]
COMPOSE = (ROOT / "docker-compose.yml").read_text()
DAEMONS = {"server-a", "server-b", "client", "client-leaky", "loadgen"}
SERVICES = {*DAEMONS, "prepare", "prometheus", "grafana"}


def without_variables(text: str) -> str:
    """What Compose makes of ${NAME:-default} in an empty environment."""
    return re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", text)


SERVICE: dict[str, Any] = yaml.safe_load(without_variables(COMPOSE))["services"]


def test_compose_accepts_the_cluster(require_tool: Callable[..., str]) -> None:
    """Compose 1.29 checks against the schema of the Compose Specification that it brings along."""
    command = require_tool("docker-compose", debian="docker-compose")
    # The oldest Compose that is supported runs with an old Python library that speaks to no engine here.
    environment = {**os.environ, "DOCKER_HOST": "unix:///nonexistent"}
    run = subprocess.run(
        [command, "-f", "docker-compose.yml", "config"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        env=environment,
    )
    assert run.returncode == 0, run.stderr
    assert "warn" not in run.stderr.lower(), run.stderr
    assert set(yaml.safe_load(run.stdout)["services"]) == SERVICES


def test_the_compose_file_has_no_top_level_name_or_version() -> None:
    """Compose 1.29 rejects the one, Compose 2 warns of the other."""
    keys = re.findall(r"^([\w-]+):", COMPOSE, re.MULTILINE)
    assert [key for key in keys if not key.startswith("x-")] == ["services", "volumes"]


def test_the_example_settings_are_the_defaults() -> None:
    used = set(re.findall(r"\$\{(\w+):-([^}]*)\}", COMPOSE))
    documented = set(re.findall(r"^(\w+)=(.*)$", (ROOT / ".env.example").read_text(), re.MULTILINE))
    assert used == documented
    assert "$" not in re.sub(r"\$\{\w+:-[^}]*\}", "", COMPOSE), "a setting without a default"


@pytest.mark.parametrize("name", sorted(DAEMONS))
def test_the_cluster_starts_the_daemons_with_options_that_they_have(name: str) -> None:
    command, *arguments = SERVICE[name]["command"]
    group = typer.main.get_group(cli.app)
    context = typer.Context(group.commands[command])
    with context:
        group.commands[command].parse_args(context, list(map(str, arguments)))


def test_the_leaky_client_is_a_client_but_for_its_settings() -> None:
    healthy, leaky = (SERVICE[name] for name in ("client", "client-leaky"))
    assert {key: value for key, value in healthy.items() if key != "command"} == {
        key: value for key, value in leaky.items() if key != "command"
    }
    differ = set(healthy["command"]) ^ set(leaky["command"])
    assert {option.partition("=")[0] for option in differ} == {"--cache", "--hook"}


@pytest.mark.parametrize("name", sorted(SERVICES))
def test_every_service_is_confined(name: str) -> None:
    service = SERVICE[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert {"mem_limit", "cpus"} <= service.keys()
    assert service["restart"] == ("no" if name == "prepare" else "unless-stopped")
    assert isinstance(service.get("command", []), list), "a string would go through a shell"
    assert all(str(port).startswith("127.0.0.1:") for port in service.get("ports", ()))
    if name in ("prometheus", "grafana"):  # the daemons have the image's
        assert service["healthcheck"]["test"][0] == "CMD"
    for condition in service.get("depends_on", {}).values():
        assert condition["condition"] in ("service_healthy", "service_completed_successfully")


def test_prometheus_accepts_its_configuration(require_tool: Callable[..., str]) -> None:
    promtool = require_tool("promtool", debian="prometheus")
    config = ROOT / "deploy" / "prometheus" / "prometheus.yml"
    run = subprocess.run([promtool, "check", "config", config], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout + run.stderr


def test_prometheus_looks_for_every_daemon() -> None:
    config = yaml.safe_load((ROOT / "deploy" / "prometheus" / "prometheus.yml").read_text())
    found = set()
    for job in config["scrape_configs"]:
        for group in job.get("dns_sd_configs", ()):
            assert (group["port"], group["type"]) == (9464, "A")
            found |= set(group["names"])
        for group in job.get("static_configs", ()):
            found |= {target.removesuffix(":9464") for target in group["targets"] if target.endswith(":9464")}
    assert found == DAEMONS


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
    program = json.loads(check)[-1]
    assert "('127.0.0.1', 9464)" in program and r"b'GET /healthz HTTP/1.0\r\n\r\n'" in program
    compile(program, "HEALTHCHECK", "exec")
    assert "EXPOSE 2049 9464 9465" in dockerfile
    assert not re.search(r"^(CMD|ENTRYPOINT) (?!\[)", dockerfile, re.MULTILINE), "a shell would not pass signals on"
    assert re.search(r"^USER (?!root|0)", dockerfile, re.MULTILINE)


# --- what fills the volumes -----------------------------------------------------------------------------------------


def test_preparing_fills_exports_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    library = tmp_path / "library"
    library.mkdir()
    (library / "os.py").write_text("'''OS routines'''\n")
    monkeypatch.setattr("freepage_lab.cluster.prepare.check_source", lambda source: library)
    export = tmp_path / "export"
    export.mkdir()
    arguments = ["--token", str(tmp_path / "token"), str(export)]
    assert prepare(arguments) == 0
    assert (export / "python" / "os.py").read_bytes() == (library / "os.py").read_bytes()
    token = (tmp_path / "token").read_text()
    assert (tmp_path / "token").stat().st_mode & 0o777 == 0o600
    (export / "python" / "os.py").write_text("changed")
    assert prepare(arguments) == 0
    assert "filled already" in capsys.readouterr().out
    assert (export / "python" / "os.py").read_text() == "changed"
    assert (tmp_path / "token").read_text() == token


@pytest.mark.parametrize("missing", ["token", "export"])
def test_preparing_says_what_is_not_there(missing: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "there").mkdir()
    token = tmp_path / ("nowhere/token" if missing == "token" else "token")
    assert prepare(["--token", str(token), str(tmp_path / "nowhere")]) != 0
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("freepage: ") and "nowhere" in line
