"""Compiles the messages of a checkout of Microsoft's Python worker, in place, as its own build does.

    python tools/worker_messages.py CHECKOUT

Needs grpcio-tools, in the version that the worker pins.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from pathlib import Path

PACKAGE = "azure_functions_worker.protos"
SOURCES = ["shared/NullableTypes.proto", "identity/ClaimsIdentityRpc.proto", "FunctionRpc.proto"]


def main() -> None:
    """Compile, and let the results import each other by the worker's package."""
    target = Path(sys.argv[1]).resolve().joinpath(*PACKAGE.split("."))
    source = target / "_src" / "src" / "proto"
    with tempfile.TemporaryDirectory() as folder:
        outputs = [f"--python_out={folder}", f"--grpc_python_out={folder}"]
        command = [sys.executable, "-m", "grpc_tools.protoc", f"-I{source}", *outputs, *SOURCES]
        subprocess.run(command, cwd=source, check=True)
        for path in Path(folder).rglob("*.py"):
            text = path.read_text(encoding="utf-8")
            text = re.sub(r"^import (\w+_pb2)", rf"from {PACKAGE} import \1", text, flags=re.MULTILINE)
            text = re.sub(r"^from (\w+) (import \w+_pb2)", rf"from {PACKAGE}.\1 \2", text, flags=re.MULTILINE)
            (target / path.relative_to(folder)).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
