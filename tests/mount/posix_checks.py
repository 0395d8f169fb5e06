"""What POSIX and Linux promise about files, a function each (in the spirit of pjdfstest).

Every check gets a fresh directory and uses system calls alone, so that it can be run on a local file system, on a
passthrough file system over our FUSE binding, and on a mount of freepage. `CHECKS` has them all by name. By hand:
``python tests/mount/posix_checks.py DIR [NAME...]``.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import posix_attributes  # noqa: F401 - each of them registers its checks
import posix_files  # noqa: F401
import posix_habits  # noqa: F401
import posix_locks  # noqa: F401
import posix_names  # noqa: F401
import posix_permissions  # noqa: F401
from posix_rig import CHECKS, NEEDS_ROOT

__all__ = ["CHECKS", "NEEDS_ROOT"]

if __name__ == "__main__":
    import sys
    import traceback

    only = sys.argv[2:]
    failed = 0
    for name, function in CHECKS.items():
        if only and name not in only:
            continue
        place = Path(tempfile.mkdtemp(prefix=name, dir=sys.argv[1]))
        try:
            function(place)
            print("ok  ", name)
        except BaseException:
            failed += 1
            print("FAIL", name)
            traceback.print_exc(limit=-2)
    sys.exit(failed > 0)
