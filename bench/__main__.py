"""`python -m bench [PART ...]`: runs the parts, prints their tables and writes them into docs/performance.md."""

from __future__ import annotations

import argparse
import sys
import time
import traceback
from collections.abc import Callable
from typing import Final

from rich.console import Console

from bench import copy, embedded, memory, pgbench, report, start, tpch
from bench.report import Section

PARTS: Final[dict[str, Callable[[], Section]]] = {
    "pgbench": pgbench.run,
    "tpch": tpch.run,
    "copy": copy.run,
    "memory": memory.run,
    "ready": start.ready,
    "reopen": start.reopen,
    "embedded": embedded.run,
}


def main() -> int:
    parser = argparse.ArgumentParser(prog="bench", description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)}; all by default")
    parser.add_argument("--no-write", action="store_true", help="leave docs/performance.md as it is")
    options = parser.parse_args()
    if unknown := set(options.parts) - PARTS.keys():
        parser.error(f"no such part: {', '.join(sorted(unknown))}")
    console = Console(width=110)
    console.print(report.machine(), highlight=False)
    failed = []
    for name in options.parts or PARTS:
        began = time.monotonic()
        try:
            section = PARTS[name]()
        except Exception:  # noqa: BLE001 - shown in full; one part must not take the others' figures with it
            traceback.print_exc()
            failed.append(name)
            continue
        section.show(console)
        console.print(f"  [dim]{time.monotonic() - began:.0f} s[/]\n")
        if not options.no_write:
            report.write(section)
    if failed:
        console.print(f"[red]failed: {', '.join(failed)}[/]")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
