"""Where the ``freepage`` process begins and ends: Ctrl-C and SIGTERM are one line at any moment, never a traceback.

Imports nothing yet: `main` does, once a signal is no traceback any more.
"""

from __future__ import annotations

import io
import os
import signal
import sys


def main(arguments: list[str] | None = None) -> None:
    """The console command, of ``sys.argv`` if no arguments are given. Never returns."""
    interruptible = signal.getsignal(signal.SIGINT) is signal.default_int_handler  # not under nohup and the like
    if interruptible:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # while modules load, there is nothing to clean up
    from freepage_lab.cli.command import run

    if interruptible:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGTERM, lambda signum, frame: signal.raise_signal(signal.SIGINT))
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # names that are no UTF-8, and terminals that know only ASCII
            stream.reconfigure(errors="backslashreplace")
    code = run(arguments)
    if interruptible:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or the interpreter complains of it at its end
    sys.exit(code)
