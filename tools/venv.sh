#!/usr/bin/env bash
# Makes the virtual environment $2 with the Python $1, or says what is missing.
# A fresh Debian has python3.11 without venv: it is a package of its own.
set -euo pipefail
python=$1 venv=$2

"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || {
    echo "FileStore needs Python 3.11 or later; '$python' is $("$python" --version 2>&1 || true). Try make PYTHON=python3.11" >&2
    exit 1
}
[ -x "$venv/bin/python" ] && "$venv/bin/python" -m pip --version >/dev/null 2>&1 && exit 0
if ! "$python" -c 'import ensurepip' 2>/dev/null; then
    bash "$(dirname "$0")/system.sh" python3-venv
fi
"$python" -m venv --clear "$venv"
