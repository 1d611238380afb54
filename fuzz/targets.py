"""All targets: strangers' bytes may get a refusal that a person can read, and nothing else.

    python -m fuzz.targets NAME|all SEED SECONDS [PROCESSES]     tries inputs; 1 where something is wrong
    python -m fuzz.targets names                                  one a line
    python -m fuzz.targets seeds NAME FOLDER                      what a corpus begins with

OSS-Fuzz runs them through atheris (`build.sh`); `make fuzz` runs all without it.
"""

import multiprocessing
import os
import sys
from pathlib import Path

# The tests' makers of bundles and requests; OSS-Fuzz's builder packs that folder too.
sys.path.append(str(Path(__file__).resolve().parents[1] / "tests"))

from fuzz.connection import CONNECTION
from fuzz.files import FILES
from fuzz.harness import LARGEST, Found, explore, judge, mutate
from fuzz.payloads import PAYLOADS

TARGETS = {"http": CONNECTION, **PAYLOADS, **FILES}


def fuzz(name: str, seed: int, seconds: float, most: int = 10**9) -> Found:
    """Tries inputs of one target (`explore`)."""
    return explore(name, TARGETS[name], seed, seconds, most)


def run_atheris(name: str) -> None:
    """The entry of a fuzz target of OSS-Fuzz; a refusal is no crash."""
    import random

    import atheris

    target = TARGETS[name]
    seeds = target.seeds()

    def test_one_input(data: bytes) -> None:
        if wrong := judge(target, data[:LARGEST]).wrong:
            raise AssertionError(wrong)

    def change(data: bytes, most: int, seed: int) -> bytes:
        """Half of what libFuzzer asks for is changed in our ways, which know the form."""
        chance = random.Random(seed)
        if chance.random() < 0.5:
            return bytes(atheris.Mutate(data, most))
        if target.make is not None and chance.random() < 0.2:
            return target.make(chance)[:most]
        return mutate(chance, [data, *seeds[:3]], target.bits)[:most]

    atheris.Setup(sys.argv, test_one_input, custom_mutator=change)
    atheris.Fuzz()


def write_seeds(name: str, folder: Path) -> None:
    """Files for a corpus to begin with."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, data in enumerate(TARGETS[name].seeds()):
        (folder / f"seed-{number}").write_bytes(data)


def _explore(name: str, seed: int, seconds: float) -> Found:
    # What stages print of their work is not read here.
    with Path(os.devnull).open("w") as nowhere:
        sys.stdout = nowhere
        try:
            return fuzz(name, seed, seconds)
        finally:
            sys.stdout = sys.__stdout__


def main(arguments: list[str]) -> int:
    """Runs one target, or all, so many seconds each; 1 where something is wrong."""
    if arguments[0] == "names":
        print(*TARGETS, sep="\n")
        return 0
    if arguments[0] == "seeds":
        write_seeds(arguments[1], Path(arguments[2]))
        return 0
    name, seed, seconds = arguments[0], int(arguments[1]), float(arguments[2])
    processes = int(arguments[3]) if len(arguments) > 3 else os.cpu_count() or 1
    # The variables are looked through for secrets whenever a refusal is worded.
    kept = {key: os.environ[key] for key in ("PATH", "HOME", "TMPDIR") if key in os.environ}
    os.environ.clear()
    os.environ.update(kept)
    found = 0
    with multiprocessing.get_context("fork").Pool(processes) as pool:
        for each in TARGETS if name == "all" else [name]:
            parts = pool.starmap(
                _explore, [(each, seed * 1_000 + number, seconds) for number in range(processes)]
            )
            wrong = [line for part in parts for line in part.wrong]
            tried, kinds = sum(part.tried for part in parts), max(part.kinds for part in parts)
            print(
                *wrong,
                f"{each}: {tried:,} inputs, {kinds:,} kinds of answers, {len(wrong)} wrong",
                sep="\n",
                flush=True,
            )
            found += len(wrong)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
