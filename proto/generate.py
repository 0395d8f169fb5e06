"""Generate the Python code of the wire contract from proto/freepage_proto/v1/*.proto, or check the committed code.

    python proto/generate.py            write *_pb2.py, *_pb2.pyi and *_pb2_grpc.py beside the .proto files
    python proto/generate.py --check    fail (exit code 1) when the committed code is not what would be written

The generated code is committed, so that installing freepage needs no compiler. It is made with the oldest grpcio-tools
that freepage supports, in an environment of its own (`make proto` has one; run by hand, proto/.venv is made). That is
because protobuf's generated code runs under its own major version and the next one: code made with protobuf 6 runs
under 6 and 7, and not the other way round.
"""

from __future__ import annotations

import argparse
import contextlib
import subprocess
import sys
import tempfile
import venv
from importlib import metadata
from pathlib import Path

GRPCIO_TOOLS = "1.76.0"
HERE = Path(__file__).resolve().parent
PACKAGE = Path("freepage_proto") / "v1"
SUFFIXES = ("_pb2.py", "_pb2.pyi", "_pb2_grpc.py")


def toolchain() -> Path:
    """A Python with the right grpcio-tools: this one, or that of proto/.venv, which is made when it is missing."""
    with contextlib.suppress(metadata.PackageNotFoundError):
        if metadata.version("grpcio-tools") == GRPCIO_TOOLS:
            return Path(sys.executable)
    directory = HERE / ".venv"
    python = directory / "bin" / "python"
    stamp = directory / f"grpcio-tools-{GRPCIO_TOOLS}"
    if not stamp.exists():
        venv.create(directory, with_pip=True, clear=True)
        # grpcio itself may be newer than the compiler; protobuf may not, it decides what the code demands.
        subprocess.run([python, "-m", "pip", "install", "--quiet", f"grpcio-tools=={GRPCIO_TOOLS}"], check=True)
        stamp.touch()
    return python


def generate(python: Path, output: Path) -> None:
    """Compile every .proto file into `output`, which mirrors this folder."""
    sources = sorted(str(path.relative_to(HERE)) for path in (HERE / PACKAGE).glob("*.proto"))
    outputs = [f"--{kind}_out={output}" for kind in ("python", "pyi", "grpc_python")]
    subprocess.run([str(python), "-m", "grpc_tools.protoc", "-I.", *outputs, *sources], check=True, cwd=HERE)
    for path in (output / PACKAGE).glob("*_pb2_grpc.py"):
        if "class " not in path.read_text():  # a .proto file without services
            path.unlink()


def generated(root: Path) -> dict[str, str]:
    """The generated files under `root`, by name."""
    return {path.name: path.read_text() for path in (root / PACKAGE).iterdir() if path.name.endswith(SUFFIXES)}


def main() -> int:
    parser = argparse.ArgumentParser(description="Generate the Python code of the wire contract.")
    parser.add_argument("--check", action="store_true", help="compare with the committed code instead of writing")
    check = parser.parse_args().check
    python = toolchain()
    with tempfile.TemporaryDirectory(prefix="freepage-proto-") as name:
        output = Path(name)
        generate(python, output)
        fresh = generated(output)
    committed = generated(HERE)
    differing = sorted(name for name in fresh.keys() | committed.keys() if fresh.get(name) != committed.get(name))
    for name in differing:
        if check:
            print(f"{PACKAGE / name} is not what generate.py writes: run `make proto`", file=sys.stderr)
        elif name in fresh:
            (HERE / PACKAGE / name).write_text(fresh[name])
        else:
            (HERE / PACKAGE / name).unlink()
    return 1 if check and differing else 0


if __name__ == "__main__":
    raise SystemExit(main())
