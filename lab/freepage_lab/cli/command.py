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

__all__ = ["app", "ctl", "daemons", "experiments", "look", "run"]

INTERRUPTED = 130
"""The shell's exit code for Ctrl-C."""
OUTPUT_GONE = 141
"""The shell's exit code for SIGPIPE."""


def run(arguments: list[str] | None = None) -> int:
    """Carry a command line out; returns the exit code."""
    # gRPC's core writes to stderr on its own account; what matters reaches us as an error. Read when grpc is imported.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    command_line[:] = sys.argv[1:] if arguments is None else arguments
    try:
        code: Any = app(arguments, standalone_mode=False, prog_name="freepage")
    except UserError as error:
        return _complain(str(error), error.exit_code)
    except (KeyboardInterrupt, typer.Abort):
        code = INTERRUPTED
    except BrokenPipeError:  # the reader of our output has gone (`freepage audit | head`)
        return OUTPUT_GONE
    except UnicodeEncodeError as error:
        if error.object not in command_line:
            raise
        return _complain(f"{error.object!r} is no UTF-8 text", 2)
    except Exception as error:
        # Wrong usage, as typer reports it; the class has moved between typer's versions, the method has not.
        message = getattr(error, "format_message", None)
        if message is None:
            raise
        where = getattr(getattr(error, "ctx", None), "command_path", "freepage")
        return _complain(
            f"{' '.join(message().split()).rstrip('.')} (see {where} --help)", getattr(error, "exit_code", 2)
        )
    if code == INTERRUPTED:  # typer's newer versions turn Ctrl-C into an exit code
        return _complain("stopped", INTERRUPTED)
    return code if isinstance(code, int) else 0


def _complain(line: str, code: int) -> int:
    print(f"freepage: {line}", file=sys.stderr)
    return code
