"""`make mutation`: every change that a machine can make to the gate's decision must fail a test.

mutmut changes the decision code (`[tool.mutmut]` in pyproject.toml names it) one place at a time, in a
copy below build/mutation, and runs the tables of cases against each. A mutant that no test notices must
stand in `EQUIVALENT` with the reason why it decides the same; any other one makes this fail. The result
is build/mutation.json.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
WORK = ROOT / "build" / "mutation"
RESULT = ROOT / "build" / "mutation.json"
# The copy has the folders as they are imported, since mutmut names a mutant by its path.
COPIED = {
    "components": "slipway/components",
    "images/images.lock.yaml": "slipway/images/images.lock.yaml",
    "pyproject.toml": "pyproject.toml",
    "tests/support/gate_world.py": "tests/support/gate_world.py",
    "tests/support/gate_cases": "tests/support/gate_cases",
    "tests/components/evaluate": "tests/components/evaluate",
}
KILLED = ("killed", "timeout", "segfault", "caught by type check")

# Function and changed line (as mutmut shows it, "old -> new"), to why nothing else is decided.
EQUIVALENT: dict[tuple[str, str], str] = {
    (
        "number_or_nan",
        "return math.nan if value is None else value"
        " -> return math.nan if (value is None) and False else value",
    ): "It is there for the types: `is_finite` refuses None as it refuses NaN.",
    **{
        ("check", f'mode: Judge = "point", -> mode: Judge = "{word}",'): (
            "Only `interval` is asked for; every other word is the point."
        )
        for word in ("XXpointXX", "POINT")
    },
    **{
        (
            "show_beside",
            'return text.rstrip("0").rstrip(".") if "." in text else text'
            f' -> return text.rstrip("{zero}").rstrip("{point}") if "." in text else text',
        ): "`rstrip` takes a set of characters, and no X ends a number."
        for zero, point in (("XX0XX", "."), ("0", "XX.XX"))
    },
    (
        "_costs",
        "limit = Threshold(threshold=threshold, at_least=False, strict=True)"
        " -> limit = Threshold(threshold=threshold, at_least=None, strict=True)",
    ): "None is as false as False.",
}


def main() -> int:
    """Runs mutmut, writes the result, and returns 1 where a mutant survived without a reason."""
    shutil.rmtree(WORK, ignore_errors=True)
    for name, copy in COPIED.items():
        source, target = ROOT / name, WORK / copy
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copyfile(source, target)
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    # Each mutant is a run of pytest of its own, and no plugin of the environment has a part in it.
    environment["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    mutmut = [sys.executable, "-m", "mutmut"]
    children = ["--max-children", str(os.cpu_count() or 1)]
    log = WORK / "run.log"
    print(f"mutmut works, some minutes; what it says goes to {log.relative_to(ROOT)}", flush=True)
    with log.open("w") as file:
        done = subprocess.run(
            [*mutmut, "run", *children],
            cwd=WORK,
            env=environment,
            check=False,
            stdout=file,
            stderr=subprocess.STDOUT,
        )
    if done.returncode:
        print(log.read_text()[-4000:], "\nmutmut gave up: see above.", file=sys.stderr)
        return 1
    listing = subprocess.run(
        [*mutmut, "results", "--all", "true"],
        cwd=WORK,
        env=environment,
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    found = dict(re.findall(r"^\s*(\S+): (.+?)\s*$", listing, flags=re.MULTILINE))
    if not found:
        print("mutmut found nothing to change: its tests do not run.", file=sys.stderr)
        return 1
    survivors = []
    for name in sorted(name for name, status in found.items() if status not in KILLED):
        shown = subprocess.run(
            [*mutmut, "show", name],
            cwd=WORK,
            env=environment,
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        change = change_of(shown)
        function = re.sub(r"^.*\.x_?|__mutmut_\d+$", "", name)
        reason = EQUIVALENT.get((function, change), "")
        survivors.append(
            {
                "mutant": name,
                "status": found[name],
                "function": function,
                "change": change,
                "equivalent": reason,
            }
        )
    unexplained = [survivor for survivor in survivors if not survivor["equivalent"]]
    killed = len(found) - len(survivors)
    result = {
        "mutants": len(found),
        "killed": killed,
        "survived": len(survivors),
        "unexplained": len(unexplained),
        "statuses": dict(sorted(Counter(found.values()).items())),
        "survivors": survivors,
    }
    RESULT.write_text(json.dumps(result, indent=2) + "\n")
    for survivor in unexplained:
        print(f"{survivor['status']}: {survivor['function']}: {survivor['change']}")
    print(
        f"{len(found)} mutants: {killed} killed, {len(survivors) - len(unexplained)} equivalent,"
        f" {len(unexplained)} unexplained. {RESULT.relative_to(ROOT)}"
    )
    return 1 if unexplained else 0


def change_of(diff: str) -> str:
    """The changed lines of a diff as "old -> new"."""
    lines = [line for line in diff.splitlines() if not line.startswith(("---", "+++"))]
    old = " ".join(line[1:].strip() for line in lines if line.startswith("-"))
    new = " ".join(line[1:].strip() for line in lines if line.startswith("+"))
    return f"{old} -> {new}"


if __name__ == "__main__":
    sys.exit(main())
