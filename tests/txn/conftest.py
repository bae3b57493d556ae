"""Makes the helper modules importable by their plain names; tests are imported by path."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

_HERE = Path(__file__).parent
_HELPERS = ("engine_model", "wire_sessions", "interleavings", "histories", "workload")
for _path in (_HERE.parent / "storage" / "crash_harness.py", *(_HERE / f"{name}.py" for name in _HELPERS)):
    if _path.stem not in sys.modules and _path.exists():
        _spec = importlib.util.spec_from_file_location(_path.stem, _path)
        assert _spec is not None and _spec.loader is not None
        sys.modules[_path.stem] = importlib.util.module_from_spec(_spec)
        _spec.loader.exec_module(sys.modules[_path.stem])
