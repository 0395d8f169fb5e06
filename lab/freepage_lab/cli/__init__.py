"""The ``freepage`` command: what it can do, and what each option means. The work is done elsewhere and imported late.

Whatever the user got wrong is one line on stderr that begins with ``freepage:``, and an exit code other than 0.
"""

from __future__ import annotations

import os
import sys
from typing import Any

import typer

from freepage_lab.cli import ctl, daemons, experiments, look
from freepage_lab.cli.app import app, command_line
from freepage_runtime.errors import UserError

__all__ = ["app", "ctl", "daemons", "experiments", "look", "main"]


def main(arguments: list[str] | None = None) -> None:
    """The console command. Never returns."""
    # gRPC's core writes to stderr on its own account; what matters reaches us as an error. Read when grpc is imported.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    sys.exit(_run(arguments))


def _run(arguments: list[str] | None) -> int:
    command_line[:] = sys.argv[1:] if arguments is None else arguments
    try:
        code: Any = app(arguments, standalone_mode=False, prog_name="freepage")
    except UserError as error:
        return _complain(str(error), error.exit_code)
    except (KeyboardInterrupt, typer.Abort):
        return _complain("stopped", 130)
    except BrokenPipeError:
        # The reader of our output has gone (`freepage audit | head`); nobody is left to tell.
        sys.stderr.close()
        return 141
    except Exception as error:
        # Wrong usage, as typer reports it; the class has moved between typer's versions, the method has not.
        message = getattr(error, "format_message", None)
        if message is None:
            raise
        where = getattr(getattr(error, "ctx", None), "command_path", "freepage")
        if not message():
            return 2  # no arguments: the help has been shown
        return _complain(f"{' '.join(message().split())} (see {where} --help)", getattr(error, "exit_code", 2))
    return code if isinstance(code, int) else 0


def _complain(line: str, code: int) -> int:
    print(f"freepage: {line}", file=sys.stderr)
    return code
