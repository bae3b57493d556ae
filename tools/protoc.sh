#!/usr/bin/env bash
# Makes the Python modules of the gRPC port's definitions anew: tools/protoc.sh [PYTHON]
set -euo pipefail
cd "$(dirname "$0")/.."
python=${1:-.venv/bin/python}
shared=$("$python" -c "import pathlib, google.type.date_pb2 as d; print(pathlib.Path(d.__file__).parents[2])")
"$python" -m grpc_tools.protoc -I . -I "$shared" --python_out=. --pyi_out=. --grpc_python_out=. \
    filestore/server/proto/filestore/v1/rows.proto
