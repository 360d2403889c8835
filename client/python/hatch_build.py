"""Makes the stubs in src/firebreak/v1 from the repository's .proto files, whenever a wheel is built.

They are not committed: so they cannot differ from the .proto files, and a change of those is one change.
"""

import os
import pathlib
import shutil
import sys
from typing import Any

HERE = pathlib.Path(__file__).resolve().parent
# FIREBREAK_PROTO names another folder of .proto files.
PROTO = pathlib.Path(os.environ.get("FIREBREAK_PROTO") or HERE.parent.parent / "proto" / "proto")


def generate(out: pathlib.Path = HERE / "src") -> None:
    """Writes firebreak/v1 below `out`."""
    from grpc_tools import protoc

    files = sorted(path.relative_to(PROTO).as_posix() for path in (PROTO / "firebreak" / "v1").glob("*.proto"))
    if not files:
        sys.exit(f"there are no .proto files in {PROTO}/firebreak/v1: build from a checkout, or set FIREBREAK_PROTO")
    # What a .proto file that is gone has left.
    shutil.rmtree(out / "firebreak" / "v1", ignore_errors=True)
    includes = [f"-I{PROTO}", f"-I{pathlib.Path(protoc.__file__).parent / '_proto'}"]
    outputs = [f"--{kind}={out}" for kind in ("python_out", "pyi_out", "grpc_python_out")]
    status = protoc.main(["protoc", *includes, *outputs, *files])
    if status != 0:
        sys.exit(f"protoc failed on the .proto files in {PROTO}")
    (out / "firebreak" / "v1" / "__init__.py").write_text('"""The stubs, made from the .proto files."""\n')


try:
    from hatchling.builders.hooks.plugin.interface import BuildHookInterface
except ImportError:  # Run by itself.
    pass
else:

    class CustomBuildHook(BuildHookInterface):  # type: ignore[type-arg]
        """Called by hatchling before it packs the wheel."""

        def initialize(self, version: str, build_data: dict[str, Any]) -> None:
            generate()


if __name__ == "__main__":
    generate()
