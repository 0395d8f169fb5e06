"""A real Prometheus over real daemons, with the project's own rules in a hurry.

The rules are the committed files with every duration divided by `HURRY`; scrapes and evaluations come as much sooner.
Nothing else differs from the cluster's configuration, so what fires here fires there.
"""

from __future__ import annotations

import json
import re
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

ROOT = Path(__file__).parents[2]
RULES = ROOT / "deploy" / "prometheus" / "rules"

HURRY = 10
"""One minute of the rules is six seconds here."""
INTERVAL_S = 0.5
"""Between scrapes, and between evaluations: five seconds in the cluster."""

START_S = 60.0
_UNITS = {"s": 1.0, "m": 60.0}


def hurried(rules: str, hurry: int = HURRY) -> str:
    """Rules with their durations divided: ``[1m]``, ``for: 15s``."""

    def shorter(match: re.Match[str]) -> str:
        seconds = int(match[2]) * _UNITS[match[3]] / hurry
        return f"{match[1]}{round(seconds * 1000)}ms{match[4]}"

    return re.sub(r"(\[|for: )(\d+)([sm])(\]|$)", shorter, rules, flags=re.MULTILINE)


Target = tuple[str, str, str]
"""job, service, address"""


class Prometheus:
    """``prometheus`` as a process, on a port that it chose. A context manager: leaving it ends the process."""

    def __init__(self, binary: str, directory: Path, targets: Sequence[Target]) -> None:
        directory.mkdir()
        for path in RULES.glob("*.yml"):
            (directory / path.name).write_text(hurried(path.read_text()))
        interval = f"{round(INTERVAL_S * 1000)}ms"
        config = {
            "global": {"scrape_interval": interval, "scrape_timeout": interval, "evaluation_interval": interval},
            "rule_files": [str(directory / "*.yml")],
            "scrape_configs": [
                {
                    "job_name": job,
                    "scrape_timeout": interval,
                    "static_configs": [
                        {"targets": [address], "labels": {"service": service}}
                        for each, service, address in targets
                        if each == job
                    ],
                }
                for job in sorted({job for job, _, _ in targets})
            ],
        }
        (directory / "prometheus.json").write_text(json.dumps(config))  # JSON is YAML
        self._log = (directory / "log").open("w+")
        self.process = subprocess.Popen(
            [
                binary,
                f"--config.file={directory / 'prometheus.json'}",
                f"--storage.tsdb.path={directory / 'data'}",
                "--web.listen-address=127.0.0.1:0",
                "--query.lookback-delta=2s",
                "--log.level=warn",
            ],
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=self._log,
        )
        self.url = ""

    def __enter__(self) -> Self:
        try:
            self.url = f"http://127.0.0.1:{self._port()}"
            self.wait(lambda: self._get("/-/ready") is not None, "Prometheus to be ready")
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.process.terminate()
        try:
            self.process.wait(START_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self._log.close()

    def _port(self) -> int:
        """The port that the system gave it, which it tells nobody: the listening socket among its descriptors."""
        deadline = time.monotonic() + START_S
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                self._log.seek(0)
                raise AssertionError(f"prometheus ended with {self.process.returncode}: {self._log.read()}")
            sockets = set()
            for descriptor in Path(f"/proc/{self.process.pid}/fd").iterdir():
                try:
                    sockets.add(str(descriptor.readlink()))
                except OSError:
                    continue  # closed since we saw it
            for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
                fields = line.split()
                if fields[3] == "0A" and f"socket:[{fields[9]}]" in sockets:
                    return int(fields[1].partition(":")[2], 16)
            time.sleep(0.05)
        raise AssertionError("prometheus listens nowhere")

    # --- asking ------------------------------------------------------------------------------------------------------

    def _get(self, path: str, **query: str) -> Any:
        """The answer's data; None while Prometheus does not answer."""
        url = f"{self.url}{path}" + (f"?{urllib.parse.urlencode(query)}" if query else "")
        try:
            with urllib.request.urlopen(url, timeout=START_S) as answer:
                body = answer.read().decode()
        except urllib.error.HTTPError as error:
            if error.code == 503:
                return None
            raise AssertionError(f"{query}: {error.read().decode()}") from error
        except OSError:
            return None
        return json.loads(body)["data"] if body.startswith("{") else body

    def query(self, expression: str) -> list[tuple[Mapping[str, str], float]]:
        """An instant query: labels and value of each series."""
        result = self._get("/api/v1/query", query=expression)["result"]
        return [(series["metric"], float(series["value"][1])) for series in result]

    def targets(self) -> dict[str, str]:
        """The health of each target, by service."""
        active = self._get("/api/v1/targets")["activeTargets"]
        return {target["labels"]["service"]: target["health"] for target in active}

    def fired(self) -> dict[str, set[str]]:
        """Everything that has fired so far."""
        ever = self.query('max_over_time(ALERTS{alertstate="firing"}[10m])')
        return _by_service(labels for labels, _ in ever)

    def firing(self) -> dict[str, set[str]]:
        """What fires now, by service: ``Alert``, or ``Alert(path)``, ``Alert(rule)``, ``Alert(status)``."""
        alerts = self._get("/api/v1/alerts")["alerts"]
        return _by_service(alert["labels"] for alert in alerts if alert["state"] == "firing")

    def wait(self, condition: Callable[[], bool], what: str, timeout_s: float = START_S) -> None:
        """Until ``condition()``: this is about other processes in real time, so there is nothing to wait on but it."""
        deadline = time.monotonic() + timeout_s
        while not condition():
            if time.monotonic() > deadline:
                raise AssertionError(f"waited {timeout_s:g} s for {what}")
            time.sleep(INTERVAL_S / 2)


def _by_service(alerts: Iterable[Mapping[str, str]]) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for labels in alerts:
        which = labels.get("path") or labels.get("rule") or labels.get("status")
        name = labels["alertname"] + (f"({which})" if which else "")
        found.setdefault(labels["service"], set()).add(name)
    return found
