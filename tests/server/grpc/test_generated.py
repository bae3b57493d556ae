"""What protoc made of rows.proto is what it would make today."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from google.type import date_pb2

ROOT = Path(__file__).parents[3]
PROTO = "filestore/server/proto/filestore/v1/rows.proto"


def test_the_generated_modules_are_up_to_date(tmp_path: Path) -> None:
    shared = Path(date_pb2.__file__).parents[2]
    options = ["-I", ".", "-I", str(shared), f"--python_out={tmp_path}", f"--pyi_out={tmp_path}"]
    command = [sys.executable, "-m", "grpc_tools.protoc", *options, f"--grpc_python_out={tmp_path}", PROTO]
    subprocess.run(command, cwd=ROOT, check=True)
    made = sorted((tmp_path / PROTO).parent.iterdir())
    assert len(made) == 3
    for file in made:
        committed = ROOT / file.relative_to(tmp_path)
        assert file.read_text() == committed.read_text(), f"{file.name}: run make protoc"
