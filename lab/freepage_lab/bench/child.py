"""One bench in a process of its own: ``python -m freepage_lab.bench.child SPECIFICATION``.

Each row gets a fresh heap, and the one processor that it is pinned to; a bench that breaks takes nobody with it. What
it has to say goes to stdout, a JSON object a line: how far it is, and in the end the row or why there is none.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from freepage_lab.bench.row import Bench, CannotRun, Plan, Row
from freepage_runtime.malloc import huge_pages_environment

TAKE_DOWN_S = 20.0
"""How long a bench that is stopped may take to end its daemons and mounts."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a bench: a row, or why it cannot run here, or how it broke."""

    bench: Bench
    row: Row | None = None
    missing: str = ""
    broke: str = ""


def measure(bench: Bench, plan: Plan, progress: Callable[[int, int], None]) -> Outcome:
    """Run a bench in a child process, and wait for it."""
    specification = json.dumps({"group": bench.group, "name": bench.name, "plan": asdict(plan)})
    command = [sys.executable, "-m", "freepage_lab.bench.child", specification]
    with _running(command, huge_pages_environment() if bench.huge_pages else None) as child:
        assert child.stdout is not None
        outcome: Outcome | None = None
        for line in child.stdout:
            said = json.loads(line)
            if "done" in said:
                progress(said["done"], said["of"])
            elif "row" in said:
                outcome = Outcome(bench, row=Row(**said["row"]))
            else:
                outcome = Outcome(bench, missing=said.get("missing", ""), broke=said.get("broke", ""))
        code = child.wait()
    return outcome or Outcome(bench, broke=f"its process ended with exit code {code} and said nothing")


@contextmanager
def _running(command: list[str], environment: dict[str, str] | None) -> Iterator[subprocess.Popen[str]]:
    # In a session of its own: Ctrl-C is ours to hear, and it ends after taking down what it started.
    child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment, start_new_session=True)
    try:
        yield child
    finally:
        child.terminate()
        try:
            child.wait(TAKE_DOWN_S)
        finally:
            child.kill()
            child.communicate()


def main(specification: str) -> None:
    from freepage_lab.bench.catalogue import find
    from freepage_lab.bench.measure import run
    from freepage_runtime.process import die_with_parent

    signal.signal(signal.SIGTERM, lambda signum, frame: sys.exit(128 + signum))
    die_with_parent()
    asked = json.loads(specification)
    plan = Plan(rounds=asked["plan"]["rounds"], tiny=asked["plan"]["tiny"], cores=tuple(asked["plan"]["cores"]))
    try:
        row = run(find(asked["group"], asked["name"]), plan, lambda done, of: _say(done=done, of=of))
    except CannotRun as error:
        _say(missing=str(error))
    except Exception as error:
        where = traceback.extract_tb(error.__traceback__)[-1]
        _say(broke=f"{type(error).__name__}: {error} ({Path(where.filename).name}:{where.lineno})")
    else:
        _say(row=row.to_json())


def _say(**what: object) -> None:
    print(json.dumps(what), flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
