"""Fills the compose cluster's volumes before anything else starts: exports, and the token of the control services.

    python -m freepage_lab.cluster.prepare --token /run/control/token /srv/a /srv/b

Each export gets a copy of Python's standard library, so that there is something to look at; loads make their own
files. What is there already stays: starting the cluster again changes nothing.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from freepage_lab.demo.tree import check_source, copy_tree
from freepage_runtime import token
from freepage_runtime.errors import UserError
from freepage_runtime.settings import format_size

LIBRARY = "python"
"""Where in an export the copy lies."""


def fill(export: Path) -> str:
    """Copy the standard library into an export that has none yet; says what was done. Raises UserError."""
    target = export / LIBRARY
    if target.exists():
        return f"{export}: filled already"
    partial = export / f".{LIBRARY}-partial"
    try:
        partial.mkdir(exist_ok=True)
        tree = copy_tree(check_source(None), partial, standard_library=True, at_least_bytes=0)
        partial.rename(target)  # a copy that was interrupted does not count as one
    except OSError as error:
        raise UserError(f"{export}: {error.strerror}") from error
    return f"{export}: {len(tree.files)} files, {format_size(tree.n_bytes)}"


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="freepage_lab.cluster.prepare")
    parser.add_argument("--token", type=Path, required=True)
    parser.add_argument("exports", type=Path, nargs="+")
    options = parser.parse_args(arguments)
    try:
        token.load_or_create(options.token)
        for export in options.exports:
            print(fill(export), flush=True)
    except UserError as error:
        print(f"freepage: {error}", file=sys.stderr)
        return error.exit_code
    except OSError as error:
        print(f"freepage: {options.token}: {error.strerror}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
