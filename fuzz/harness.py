"""What runs a fuzz target: makes inputs, judges what comes of each, keeps those that show something new.

In process, and without a socket. What guides it is what a target answers: an input whose answer was not
seen before (a refusal by its words, a connection by its statuses) becomes a seed of others. atheris is
guided by covered branches instead (`fuzz.targets.run_atheris`).
"""

import base64
import contextlib
import random
import re
import resource
import time
from collections.abc import Callable
from dataclasses import dataclass

from slipway.components.support.errors import SlipwayError
from slipway.serving.errors import RequestError

LONGEST_SECONDS = 1.0
"""What a target may take of the CPU for one input of at most `LARGEST` bytes."""
LARGEST = 65_536
MEMORY_MB = 400
"""So much may the process grow beyond what it had when the target was warm."""
LONGEST_MESSAGE = 4_000
"""Beside twice the input, which a message may quote."""
LONGEST_REFUSAL = 500
"""What the predictor may say of a request."""
MOST_SEEDS = 2_000
_VALUE = re.compile(r"\d[\d.,]*|'[^']*'|\"[^\"]*\"|\b0x[0-9a-f]+")

BITS = [
    b"{", b"}", b"[", b"]", b'"', b"'", b":", b",", b"-", b"\n", b"\n  ", b"#", b"&a", b"*a", b"<<: *a",
    b"!!python/object:os.system", b"null", b"true", b"NaN", b"Infinity", b"-1", b"0", b"1e999",
    b"9" * 400, b"9999-99-99", b"0001-01-01", b"1d", b"999999999999d", b"\x00", b"\xff", b"\xef\xbb\xbf",
    b"\r\n", b"a" * 3000, b"[" * 2000, b"{\"a\":" * 900, "\u202e\U0001f600\u0000".encode(),
    b"../../etc/passwd", b"${HOME}", b"{{7*7}}", b"(a+)+$", b"PAR1", b"\x15\x04\x15", b"\x80" * 9,
]  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class FuzzTarget:
    """A reader of bytes.

    Attributes:
        read: takes an input; what it raises beside a refusal is a fault. What it returns may tell one
            outcome from another.
        seeds: inputs that it takes.
        make: an input from nothing, for a form of which bytes seldom are; else seeds are changed alone.
        bits: what is put into inputs.
    """

    read: Callable[[bytes], object]
    seeds: Callable[[], list[bytes]]
    make: Callable[[random.Random], bytes] | None = None
    bits: tuple[bytes, ...] = tuple(BITS)


@dataclass(frozen=True, slots=True)
class Judged:
    """What came of an input: what is wrong (empty: nothing), and which kind of answer it was."""

    wrong: str
    kind: str


def judge(target: FuzzTarget, data: bytes) -> Judged:
    """Gives a target an input."""
    started = time.perf_counter()
    wrong, kind = "", ""
    try:
        kind = str(target.read(data))
    except SlipwayError as error:
        text = kind = str(error)
        if not 0 < len(text) <= LONGEST_MESSAGE + 2 * len(data):
            wrong = f"a message of {len(text)} characters"
        elif "Traceback" in text:
            wrong = f"a traceback in the message: {text[:300]}"
    except RequestError as error:
        kind = str(error)
        if not 400 <= error.status < 500 or not 0 < len(kind) <= LONGEST_REFUSAL:
            wrong = f"{error.status} {kind[:600]}"
    except Exception as error:  # what this looks for
        wrong = f"{error!r:.600}"
    # The machine may be busy: what took long is timed again by the CPU's clock, which is dear to ask.
    if not wrong and time.perf_counter() - started > LONGEST_SECONDS:
        took = _cpu_seconds(target, data)
        wrong = f"{took:.1f} s" if took > LONGEST_SECONDS else ""
    return Judged(wrong, _VALUE.sub("", kind[:400]))


def _cpu_seconds(target: FuzzTarget, data: bytes) -> float:
    """What reading an input takes, whatever comes of it."""
    started = time.process_time()
    with contextlib.suppress(Exception):
        target.read(data)
    return time.process_time() - started


def mutate(chance: random.Random, seeds: list[bytes], bits: tuple[bytes, ...]) -> bytes:
    """A seed with a few of its bytes or lines changed."""
    data = bytearray(chance.choice(seeds))
    for _ in range(chance.choice([0, 1, 1, 2, 3, 8])):
        place = chance.randrange(len(data) + 1)
        length = chance.choice([0, 1, 4, 40])
        match chance.randrange(7):
            case 0:
                data[place : place + length] = chance.choice(bits)
            case 1:
                data[place : place + 1] = bytes([chance.randrange(256)])
            case 2:
                del data[place : place + length * 10]
            case 3:
                data[place:place] = data[place : place + length * 5]
            case 4:
                other = chance.choice(seeds)
                at = chance.randrange(len(other) + 1)
                data[place : place + length] = other[at : at + 4 * length]
            case 5:
                lines = bytes(data).split(b"\n")
                one, two = chance.randrange(len(lines)), chance.randrange(len(lines))
                lines[one], lines[two] = lines[two], lines[one]
                data = bytearray(b"\n".join(lines))
            case _:
                lines = bytes(data).split(b"\n")
                at = chance.randrange(len(lines))
                head, mark, _ = lines[at].partition(b": ")
                lines[at] = head + mark + chance.choice(bits)
                data = bytearray(b"\n".join(lines))
    return bytes(data[:LARGEST])


@dataclass(frozen=True, slots=True)
class Found:
    """What a run saw: how many inputs it tried, how many kinds of answers, and what was wrong."""

    tried: int
    kinds: int
    wrong: list[str]


def explore(name: str, target: FuzzTarget, seed: int, seconds: float, most: int = 10**9) -> Found:
    """Tries inputs until the time is over, or ten were answered wrongly.

    Args:
        name: of the target, in what is told.
        target: it.
        seed: of what is tried.
        seconds: of the clock.
        most: inputs.
    """
    chance, wrong, seeds = random.Random(f"{name} {seed}"), list[str](), target.seeds()
    kinds = {judge(target, data).kind for data in seeds}  # imports count no more
    before, tried = _resident_mb(), 0
    end = time.monotonic() + seconds
    while tried < most and time.monotonic() < end and len(wrong) < 10:
        fresh = target.make is not None and chance.random() < 0.5
        data = target.make(chance) if fresh and target.make else mutate(chance, seeds, target.bits)
        tried += 1
        judged = judge(target, data)
        if judged.wrong:
            wrong.append(f"{name}: {judged.wrong}\n    {base64.b64encode(data).decode()}")
        elif judged.kind not in kinds and len(seeds) < MOST_SEEDS:
            kinds.add(judged.kind)
            seeds.append(data)
        if tried % 64 == 0 and (grown := _resident_mb() - before) > MEMORY_MB:
            wrong.append(f"{name}: {grown:.0f} MB more\n    {base64.b64encode(data).decode()}")
            break
    return Found(tried, len(kinds), wrong)


def _resident_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
