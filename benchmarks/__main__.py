"""`python -m benchmarks [NAME …]`: runs the named benchmarks, or all."""

import importlib
import sys
from pathlib import Path


def main() -> None:
    """Runs benchmarks by name; an unknown name lists the known ones."""
    helpers = {"__init__", "__main__", "harness", "public_tables", "standings"}
    known = sorted({p.stem for p in Path(__file__).parent.glob("*.py")} - helpers)
    names = sys.argv[1:] or known
    unknown = [name for name in names if name not in known]
    if unknown:
        sys.exit(f"No benchmark {', '.join(unknown)}. There are: {', '.join(known)}.")
    for name in names:
        importlib.import_module(f"benchmarks.{name}").main()


if __name__ == "__main__":
    main()
