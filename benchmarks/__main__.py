"""`python -m benchmarks [NAME …]`: runs the named benchmarks, or all."""

import importlib
import re
import sys
import traceback
from pathlib import Path


def main() -> None:
    """Runs benchmarks by name; an unknown name lists the known ones.

    One that cannot run here says so in a line, and the others go on. What did not run is said again at
    the end, and the exit code is 1 where a benchmark failed or was named and could not run.
    """
    known = sorted(
        path.stem
        for path in Path(__file__).parent.glob("*.py")
        if path != Path(__file__) and re.search(r"^def main\(", path.read_text(), re.MULTILINE)
    )
    named = sys.argv[1:]
    unknown = [name for name in named if name not in known]
    if unknown:
        sys.exit(f"No benchmark {', '.join(unknown)}. There are: {', '.join(known)}.")
    lacking, failed = [], []
    for name in named or known:
        try:
            importlib.import_module(f"benchmarks.{name}").main()
        except SystemExit as end:
            if isinstance(end.code, str):
                lacking.append(f"{name} did not run: {end.code}")
            elif end.code:
                failed.append(f"{name} failed: its result is not what it must be (see above).")
        except Exception as error:  # whatever a peer raises
            traceback.print_exc()
            failed.append(f"{name} failed: {type(error).__name__}: {error}")
    print(*lacking, *failed, sep="\n", file=sys.stderr)
    sys.exit(1 if failed or (named and lacking) else 0)


if __name__ == "__main__":
    main()
