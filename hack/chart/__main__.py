"""`python -m hack.chart [--check]`: write what is made of values.yaml and config/monitoring, or compare it."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Final

from hack.chart.files import files

ROOT: Final = Path(__file__).resolve().parents[2]


def main() -> int:
    """Write or compare; 1 if `--check` finds a difference."""
    parser = argparse.ArgumentParser(prog="python -m hack.chart", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 and name the files that differ")
    check = parser.parse_args().check
    differing = [name for name, text in files().items() if not (ROOT / name).is_file() or (ROOT / name).read_text() != text]
    for name in differing:
        if check:
            print(f"{name} differs. Run `python -m hack.chart`.", file=sys.stderr)
        else:
            (ROOT / name).parent.mkdir(parents=True, exist_ok=True)
            (ROOT / name).write_text(files()[name], encoding="utf-8")
            print(f"{name} written")
    return 1 if check and differing else 0


if __name__ == "__main__":
    sys.exit(main())
