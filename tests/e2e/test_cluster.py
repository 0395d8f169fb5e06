"""The compose cluster, for real: it comes up, is watched, leaks where it should, grows, and survives a killed server.

Needs a Docker engine and runs with ``make test-cluster``. Grafana is left out where its image is not on the machine.
Rules and scrapes are in a hurry (see `prometheus_rig`), by an override of what Prometheus mounts; nothing else differs.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from prometheus_rig import hurried

pytestmark = pytest.mark.cluster

ROOT = Path(__file__).parents[2]
BASE = "python:3.12-slim-bookworm"
GRAFANA = "grafana/grafana:12.1.0"
MAX_IMAGE_BYTES = 200 * 10**6
"""Beyond the base image."""
HURRY = 3

WRITER = """
import asyncio, os, sys
from freepage_client.io.remote import RemoteMachine

async def main():
    token = open("/run/control/token").read().strip()
    async with RemoteMachine("127.0.0.1:9465", token=token) as machine:
        task = await machine.task()
        fd = await task.open("/mnt/a/acknowledged", os.O_RDWR | os.O_CREAT | os.O_TRUNC)
        for number in range(100_000):
            await task.pwrite(fd, b"%015d\\n" % number, number * 16)
            await task.fsync(fd)
            print(number, flush=True)
            await asyncio.sleep(0.02)

asyncio.run(main())
"""
"""Writes numbered lines to a file, and says of each when it is durable."""

READER = """
import asyncio, os, sys
from freepage_client.io.remote import RemoteMachine

async def main():
    token = open("/run/control/token").read().strip()
    async with RemoteMachine("127.0.0.1:9465", token=token) as machine:
        task = await machine.task()
        fd = await task.open("/mnt/a/acknowledged", os.O_RDONLY)
        data = b""
        while piece := await task.read(fd, 1 << 20):
            data += piece
        print(data.decode(), end="")

asyncio.run(main())
"""


def run(*command: str, check: bool = True, **more: str) -> str:
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, check=False, env={**os.environ, **more}, timeout=300
    )
    if check:
        assert done.returncode == 0, f"{' '.join(command)}: {done.stdout}{done.stderr}"
    return done.stdout


def engine_answers(docker: str) -> bool:
    return bool(run(docker, "info", "--format", "{{.ServerVersion}}", check=False).strip())


class Cluster:
    """The running cluster and its Prometheus."""

    def __init__(self, docker: str, compose: str, directory: Path) -> None:
        self.docker = docker
        self.image = f"freepage-test-{os.getpid()}"
        self._environment = {
            "COMPOSE_PROJECT_NAME": self.image,
            "COMPOSE_HTTP_TIMEOUT": "120",
            "FREEPAGE_IMAGE": self.image,
            "BASE_IMAGE": BASE,
            "PROMETHEUS_PORT": "0",
            "GRAFANA_PORT": "0",
            "AUDIT_EVERY": "5",
        }
        override = directory / "override.json"
        mount = f"{_hurried_configuration(directory)}:/etc/prometheus:ro"
        override.write_text(json.dumps({"services": {"prometheus": {"volumes": [mount]}}}))
        self._command = (compose, "-f", str(ROOT / "docker-compose.yml"), "-f", str(override))
        self.services = ["server-a", "server-b", "client", "client-leaky", "loadgen", "prometheus"]
        if run(docker, "images", "-q", GRAFANA).strip():
            self.services.append("grafana")
        self.url = ""

    def compose(self, *arguments: str, check: bool = True) -> str:
        return run(*self._command, *arguments, check=check, **self._environment)

    def up(self, clients: int) -> None:
        self.compose("up", "-d", "--no-build", "--scale", f"client={clients}", "prepare", *self.services)
        port = self.compose("port", "prometheus", "9090").strip().rpartition(":")[2]
        self.url = f"http://127.0.0.1:{port}"

    def ps(self, form: str, *more: str) -> list[str]:
        """One line for each container of the project (docker-compose's own ps takes a second)."""
        of_project = f"label=com.docker.compose.project={self.image}"
        return run(self.docker, "ps", "-a", "--filter", of_project, *more, "--format", form).splitlines()

    def containers(self, service: str) -> list[str]:
        return self.ps("{{.ID}}", "--filter", f"label=com.docker.compose.service={service}")

    def inspect(self, container: str, form: str) -> str:
        return run(self.docker, "inspect", "--format", form, container).strip()

    def unhealthy(self) -> list[str]:
        """The services, but for `prepare`, of which a container is not healthy (yet)."""
        states = [line.partition(" ") for line in self.ps('{{.Label "com.docker.compose.service"}} {{.Status}}')]
        return [f"{name}: {state}" for name, _, state in states if name != "prepare" and "(healthy)" not in state]

    def ask(self, path: str, **query: str) -> Any:
        url = f"{self.url}{path}" + (f"?{urllib.parse.urlencode(query)}" if query else "")
        try:
            with urllib.request.urlopen(url, timeout=30) as answer:
                return json.loads(answer.read())["data"]
        except OSError:
            return {"activeTargets": [], "alerts": [], "result": []}  # not up yet

    def scraped(self) -> list[str]:
        """The services of the targets that are up, one for each replica."""
        targets = self.ask("/api/v1/targets")["activeTargets"]
        return sorted(t["labels"].get("service", "prometheus") for t in targets if t["health"] == "up")

    def firing(self) -> set[tuple[str, str]]:
        """(alert, service)"""
        alerts = self.ask("/api/v1/alerts")["alerts"]
        return {(a["labels"]["alertname"], a["labels"]["service"]) for a in alerts if a["state"] == "firing"}

    def value(self, expression: str) -> float:
        return sum(float(series["value"][1]) for series in self.ask("/api/v1/query", query=expression)["result"])


def _hurried_configuration(directory: Path) -> Path:
    target = directory / "prometheus"
    (target / "rules").mkdir(parents=True)
    source = ROOT / "deploy" / "prometheus"
    config = (source / "prometheus.yml").read_text()
    quick = re.sub(r"(scrape_interval|scrape_timeout|evaluation_interval|refresh_interval): \w+", r"\1: 2s", config)
    (target / "prometheus.yml").write_text(quick)
    for rules in (source / "rules").glob("*.yml"):
        (target / "rules" / rules.name).write_text(hurried(rules.read_text(), HURRY))
    for path in (directory, target, target / "rules"):
        path.chmod(0o755)  # Prometheus runs as nobody
    return target


def wait(condition: Callable[[], bool], what: Callable[[], object], timeout_s: float = 240.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"after {timeout_s:g} s: {what()}"
        time.sleep(0.5)


@pytest.fixture(scope="module")
def cluster(require_tool: Callable[..., str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    docker = require_tool("docker", debian="docker.io", works=engine_answers)
    compose = require_tool("docker-compose", debian="docker-compose")
    directory = tmp_path_factory.mktemp("cluster")
    for parent in (directory, directory.parent):
        parent.chmod(0o755)
    made = Cluster(docker, compose, directory)
    try:
        made.compose("build", "prepare")
        made.up(clients=2)
        yield made
    finally:
        # Shown when a test failed.
        print("\n".join(made.ps("{{.Names}} {{.Status}}")), made.compose("logs", "--tail", "15", check=False), sep="\n")
        made.compose("down", "-v", "-t", "10", "--remove-orphans", check=False)
        run(docker, "rmi", "-f", made.image, check=False)


def test_the_image_is_small_and_builds_nothing(cluster: Cluster) -> None:
    def size(image: str) -> int:
        return int(run(cluster.docker, "image", "inspect", "--format", "{{.Size}}", image))

    assert size(cluster.image) - size(BASE) < MAX_IMAGE_BYTES
    look = (
        "import importlib.util, os, shutil; "
        "print(os.getuid(), [t for t in ('gcc', 'make', 'git', 'hatchling') if shutil.which(t)], "
        "importlib.util.find_spec('pip'))"
    )
    assert run(cluster.docker, "run", "--rm", "--entrypoint", "python", cluster.image, "-c", look) == "10001 [] None\n"
    assert run(cluster.docker, "run", "--rm", "--read-only", cluster.image, "--version").startswith("freepage ")


def test_everything_becomes_healthy_and_every_replica_is_scraped(cluster: Cluster) -> None:
    wait(lambda: not cluster.unhealthy(), cluster.unhealthy)
    services = ["client", "client", "client-leaky", "loadgen", "prometheus", "server-a", "server-b"]
    wait(lambda: cluster.scraped() == services, cluster.scraped)
    wait(lambda: cluster.value("sum(freepage_load_operation_duration_seconds_count)") > 10, lambda: "no load")


def test_the_leaky_client_is_found_out_and_nobody_else(cluster: Cluster) -> None:
    lifecycle = {"FreepageLeak", "FreepageOrphansRemain", "FreepageCredentialsPinned"}
    wait(lambda: {(alert, "client-leaky") for alert in lifecycle} <= cluster.firing(), cluster.firing)
    about_the_hook = lifecycle | {"FreepageHookNotCalled", "FreepageHookRuleBroken", "FreepageAuditDisagrees"}
    assert {service for alert, service in cluster.firing() if alert in about_the_hook} == {"client-leaky"}
    assert cluster.value('sum(freepage:orphaned_objects{service!="client-leaky"})') == 0


def test_new_replicas_are_found(cluster: Cluster) -> None:
    for replicas in (5, 2):
        cluster.compose("up", "-d", "--no-build", "--no-deps", "--scale", f"client={replicas}", "client")
        wait(lambda: cluster.scraped().count("client") == replicas, cluster.scraped)  # noqa: B023


def test_a_killed_server_costs_nothing_that_was_acknowledged(cluster: Cluster) -> None:
    writer, reader = cluster.containers("client")[:2]
    (server,) = cluster.containers("server-a")
    program = subprocess.Popen(
        [cluster.docker, "exec", writer, "python", "-c", WRITER], stdout=subprocess.PIPE, text=True
    )
    try:
        assert program.stdout is not None
        acknowledged = [int(program.stdout.readline()) for _ in range(50)]
        run(cluster.docker, "kill", "--signal", "KILL", server)
        wait(lambda: ("FreepageServerDown", "server-a") in cluster.firing(), cluster.firing)
        wait(lambda: ("FreepageRpcFailures", "client") in cluster.firing(), cluster.firing)
        run(cluster.docker, "start", server)
        for line in program.stdout:  # it goes on as soon as the client has found its server again
            acknowledged.append(int(line))
            if len(acknowledged) >= 200:
                break
        assert len(acknowledged) == 200, "the writer did not go on"
        wait(lambda: ("FreepageWriteVerifierChanged", "client") in cluster.firing(), cluster.firing)
    finally:
        program.kill()
        program.communicate()
    lines = run(cluster.docker, "exec", reader, "python", "-c", READER).splitlines()
    assert [int(line) for line in lines[: len(acknowledged)]] == acknowledged
    assert cluster.value('sum(freepage_load_errors_total{error="corrupt"})') == 0
    over = {"FreepageServerDown", "FreepageRpcFailures", "FreepageRetransmissions", "FreepageWriteVerifierChanged"}
    wait(lambda: not over & {alert for alert, _ in cluster.firing()}, cluster.firing)


def test_daemons_end_when_they_are_asked_to(cluster: Cluster) -> None:
    containers = {name: cluster.containers(name) for name in ("loadgen", "client", "client-leaky", "server-a")}
    for name, ids in containers.items():
        run(cluster.docker, "stop", "-t", "60", *ids)
        codes = {cluster.inspect(container, "{{.State.ExitCode}}") for container in ids}
        assert codes == {"0"}, f"{name}: {codes}"
