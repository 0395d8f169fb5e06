"""The .proto files, the code generated from them and the promise to older versions agree."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from google.protobuf import descriptor_pb2

from freepage_proto.v1 import common_pb2, control_pb2, mount_pb2, nfs_pb2, nfsacl_pb2, nlm_pb2, syscalls_pb2

PROTO = Path(__file__).parents[2] / "proto"
MODULES = (common_pb2, control_pb2, mount_pb2, nfs_pb2, nfsacl_pb2, nlm_pb2, syscalls_pb2)


@pytest.fixture(scope="module")
def buf() -> str:
    """The buf command: a Python package ships it (buf-bin), so it stands beside the interpreter."""
    beside = Path(sys.executable).with_name("buf")
    found = str(beside) if beside.exists() else shutil.which("buf")
    if found is None:
        if os.environ.get("FREEPAGE_REQUIRE_TOOLS"):
            pytest.fail("buf is missing: pip install buf-bin")
        pytest.skip("buf is missing: pip install buf-bin")
    return found


def run(*command: str) -> str:
    done = subprocess.run(command, cwd=PROTO, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_buf_lint_is_content(buf: str) -> None:
    run(buf, "lint")
    run(buf, "format", "--diff", "--exit-code")


def test_nothing_was_taken_back_that_an_older_version_relies_on(buf: str) -> None:
    run(buf, "breaking", "--against", "baseline.binpb")


def test_the_generated_code_is_of_these_files(buf: str) -> None:
    """By descriptor, which needs no compiler of the right version; `proto/generate.py --check` compares text."""
    image = subprocess.run(
        [buf, "build", "--exclude-source-info", "--as-file-descriptor-set", "-o", "-"],
        cwd=PROTO,
        capture_output=True,
        check=True,
    ).stdout
    built = {file.name: file for file in descriptor_pb2.FileDescriptorSet.FromString(image).file}
    assert set(built) == {module.DESCRIPTOR.name for module in MODULES}
    for module in MODULES:
        committed = descriptor_pb2.FileDescriptorProto()
        module.DESCRIPTOR.CopyToProto(committed)
        wanted = built[module.DESCRIPTOR.name]
        for message in wanted.message_type:  # a compiler may or may not spell out the default JSON names
            for field in message.field:
                field.ClearField("json_name")
            for nested in message.nested_type:
                for field in nested.field:
                    field.ClearField("json_name")
        assert committed == wanted, f"{module.DESCRIPTOR.name}: run `make proto`"
