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
    interruptible = signal.getsignal(signal.SIGINT) is signal.default_int_handler  # not in the background of a script
    if interruptible:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # while modules load, there is nothing to clean up
    from freepage_lab.cli.command import run

    def stop(signum: int, frame: object) -> None:
        if not interruptible:
            raise KeyboardInterrupt
        signal.raise_signal(signal.SIGINT)  # whoever hears it now: an event loop ends its tasks in good order

    signal.signal(signal.SIGTERM, stop)
    if interruptible:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # names that are no UTF-8, and terminals that know only ASCII
            stream.reconfigure(errors="backslashreplace")
    code = run(arguments)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    if interruptible:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or the interpreter complains of it at its end
    sys.exit(code)
