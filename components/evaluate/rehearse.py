"""Rehearsal: the predictor, as its image runs it, is asked real rows before anything is registered.

A new process starts `python -m slipway.serving` on the bundle. The training libraries cannot be imported
in it, as in the predictor's image. It is asked over the V2 protocol, and what it answers is held against
what evaluate computed. (TFX calls such a stage InfraValidator.)
"""

import contextlib
import math
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from slipway import serving
from slipway.components.config.gate import RehearsalRule
from slipway.components.contracts.bundle import Bundle
from slipway.components.contracts.rows.requests import v2_inputs
from slipway.components.contracts.rows.scoring import open_model, predict
from slipway.components.contracts.splits import Splits
from slipway.components.evaluate.measures.baselines import sample_part
from slipway.components.evaluate.measures.measured import RehearsalEvidence
from slipway.components.metrics.kinds.base import LabelType, Output
from slipway.components.metrics.kinds.choose import label_type_of
from slipway.components.support import environment
from slipway.components.support.errors import SlipwayError
from slipway.components.support.retry import wait_until

if TYPE_CHECKING:
    import httpx
    import numpy as np
    import pyarrow as pa

FORBIDDEN = ("torch", "torchmetrics", "mlflow", "kfp", "feast", "sklearn", "pandas", "evidently")
"""Libraries that the predictor's image does not have."""

_START = (
    "import runpy, sys\n"
    f"sys.modules.update(dict.fromkeys({FORBIDDEN!r}))\n"
    "sys.argv[0] = 'serving'\n"
    f"runpy.run_module({serving.__name__!r}, run_name='__main__')\n"
)
COMMAND = (sys.executable, "-c", _START)
_START_SECONDS = 60.0
_WARM_UP = 5
_ROUNDS = 3
_UNSEEN = "\u2603 a value that no training row had"


@dataclass(slots=True, kw_only=True)
class _Answers:
    """What the predictor did so far.

    Attributes:
        label: the kind of label. scale: what a difference is a share of (see `LabelType.size`).
    """

    label: LabelType
    scale: float
    difference: float = 0.0
    problems: list[str] = field(default_factory=list)

    def compare(self, what: str, got: "Served | str", expected: "np.ndarray") -> None:
        """Holds the served outputs against the answers that evaluate computed."""
        problem = got if isinstance(got, str) else self._differ(got, expected)
        if problem:
            self.problems.append(f"{what}: {problem}")

    def _differ(self, got: "Served", expected: "np.ndarray") -> str:
        """Counts the difference of answers; what is wrong besides it, in words."""
        import numpy as np

        try:
            served = {
                output.name: _as_array(output, got[output.name]) for output in self.label.outputs
            }
        except KeyError as error:
            return f"the answer has no output {error}."
        except (ValueError, TypeError) as error:
            return f"not a V2 answer ({error!r})."
        short = [name for name, values in served.items() if len(values) != len(expected)]
        if short:
            return f"the output {short[0]} does not have {len(expected)} rows."
        answers = self.label.read_response(served)
        if not np.isfinite(answers).all():
            return f"an answer is not {self.label.answer_name}."
        gaps = np.abs(answers.astype(np.float64) - expected.astype(np.float64))
        self.difference = max(self.difference, float(gaps.max(initial=0)) / self.scale)
        # The label, and whatever else is made from an answer, must be what the gate would make of it.
        for name, values in self.label.respond(answers.astype(np.float32)).items():
            if not np.array_equal(served[name].astype(values.dtype), values):
                return f"the output {name} is not what the model's answer stands for."
        return ""


Served = dict[str, list[Any]]
"""Data of a V2 answer by output."""


def _as_array(output: Output, data: "list[Any]") -> "np.ndarray":
    """An output's data, flat or nested, as [N] or [N, W]."""
    import numpy as np

    if output.datatype == "BYTES":
        return np.array([str(value) for value in data], object)
    kind = np.int64 if output.datatype.startswith("INT") else np.float64
    return np.array(data, kind).reshape((-1,) if output.width is None else (-1, output.width))


def rehearse(
    folder: Path,
    bundle: Bundle,
    splits_folder: Path,
    splits: Splits,
    rule: RehearsalRule,
    command: tuple[str, ...] = COMMAND,
) -> RehearsalEvidence:
    """Starts the predictor on the bundle and asks it test rows.

    Asked are: every sampled row alone (its latency counts), all of them at once, rows with unseen
    categories, and rows with every feature null.

    Args:
        folder: the bundle.
        bundle: its signature.
        splits_folder: the splits.
        splits: what they hold.
        rule: how many rows, and the budgets.
        command: what starts the predictor; its flags are added.

    Returns:
        What was seen. A predictor that does not start, or answers badly, is a problem in it.
    """
    columns = [bundle.key, *(feature.name for feature in bundle.features)]
    rows = sample_part(splits_folder, splits, "test", rule.rows, columns)
    session = open_model(folder)
    cases = {
        "rows with unseen categories": _unseen(rows.slice(0, 3), bundle),
        "rows with every feature null": _nulls(rows.slice(0, 3), bundle),
    }
    expected = predict(session, bundle, rows)
    label = label_type_of(bundle)
    answers = _Answers(label=label, scale=label.size(expected))
    p99 = memory = None
    try:
        with _predictor(folder, command) as (client, process):
            url = f"/v2/models/{bundle.name}/infer"
            all_at_once = _ask(client, url, bundle, rows)
            answers.compare("all rows at once", all_at_once, expected)
            for what, table in cases.items():
                answers.compare(
                    what, _ask(client, url, bundle, table), predict(session, bundle, table)
                )
            p99 = _latency(client, url, bundle, rows, expected, answers, rule.p99_ms)
            memory = _peak_mb(process.pid)
    except SlipwayError as error:
        answers.problems.append(str(error))
    return RehearsalEvidence(
        rows=rows.num_rows,
        difference=answers.difference if p99 is not None else None,
        p99_ms=p99,
        memory_mb=memory,
        problems=tuple(dict.fromkeys(answers.problems)),
    )


def _latency(
    client: "httpx.Client",
    url: str,
    bundle: Bundle,
    rows: "pa.Table",
    expected: "np.ndarray",
    answers: _Answers,
    budget: float,
) -> float:
    """99th percentile of the latency of single rows, in ms: the best of at most three rounds.

    A machine that is busy with something else adds to a latency and never takes from it, so a round
    within the budget shows that the model can keep it.
    """
    import numpy as np

    bodies = [_body(bundle, rows.slice(i, 1)) for i in range(rows.num_rows)]
    for body in bodies[:_WARM_UP]:
        _post(client, url, body)
    best = math.inf
    for _ in range(_ROUNDS):
        taken = []
        for i, body in enumerate(bodies):
            started = time.perf_counter()
            got = _post(client, url, body)
            taken.append((time.perf_counter() - started) * 1000)
            answers.compare("a row alone", got, expected[i : i + 1])
        best = min(best, float(np.percentile(taken, 99)))
        if best <= budget or answers.problems:
            break
    return best


def _ask(client: "httpx.Client", url: str, bundle: Bundle, table: "pa.Table") -> "Served | str":
    return _post(client, url, _body(bundle, table))


def _post(client: "httpx.Client", url: str, body: bytes) -> "Served | str":
    """Outputs of a V2 answer; a text says what was wrong with it."""
    import httpx

    try:
        response = client.post(url, content=body, headers={"content-type": "application/json"})
    except httpx.HTTPError as error:
        return f"no answer ({type(error).__name__}: {error})."
    if response.status_code != 200:
        return f"HTTP {response.status_code}: {response.text[:300]}"
    try:
        return {output["name"]: list(output["data"]) for output in response.json()["outputs"]}
    except (ValueError, KeyError, TypeError) as error:
        return f"not a V2 answer ({error!r})."


def _body(bundle: Bundle, table: "pa.Table") -> bytes:
    """Rows as the JSON of a V2 request that stays out of the inference log."""
    import json

    request = {
        "id": "rehearsal",
        "parameters": {"log": False},
        "inputs": v2_inputs(bundle.features, table),
    }
    return json.dumps(request, allow_nan=False).encode()


def _unseen(table: "pa.Table", bundle: Bundle) -> "pa.Table":
    import pyarrow as pa

    for name in bundle.categorical:
        values = pa.array([_UNSEEN] * table.num_rows, table[name].type)
        table = table.set_column(table.column_names.index(name), name, values)
    return table


def _nulls(table: "pa.Table", bundle: Bundle) -> "pa.Table":
    import pyarrow as pa

    for feature in bundle.features:
        index = table.column_names.index(feature.name)
        nothing = pa.nulls(table.num_rows, table[feature.name].type)
        table = table.set_column(index, feature.name, nothing)
    return table


@contextlib.contextmanager
def _predictor(
    folder: Path, command: tuple[str, ...]
) -> Iterator[tuple["httpx.Client", "subprocess.Popen[bytes]"]]:
    """A running predictor on a loopback port that the system chose, and a client for it.

    Raises:
        SlipwayError: it does not become ready; the message has the end of what it printed.
    """
    import httpx

    # A model is signed once it has passed: nothing can be asked of its signature yet.
    variables = {
        name: value
        for name, value in environment.without_signers(os.environ).items()
        if not name.startswith("SLIPWAY_")
        and name not in ("INFERENCE_LOG_URI", "PORT", "STORAGE_URI", *environment.TRUST)
    }
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        tempfile.TemporaryFile() as output,
        tempfile.TemporaryDirectory(prefix="slipway-rehearsal-") as scratch,
    ):
        port = listener.getsockname()[1]
        # Nobody else ends the predictor where this process is killed.
        life, held = os.pipe()
        flags = ["--model-dir", str(folder.resolve()), "--fd", str(listener.fileno())]
        flags += ["--life-fd", str(life)]
        process = subprocess.Popen(
            [*command, *flags],
            stdout=output,
            stderr=output,
            env=variables,
            cwd=scratch,
            pass_fds=[listener.fileno(), life],
        )
        os.close(life)
        try:
            with httpx.Client(
                base_url=f"http://127.0.0.1:{port}", timeout=30, trust_env=False
            ) as client:
                _wait(client, process, output)
                yield client, process
        finally:
            process.terminate()
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            os.close(held)


def _wait(client: "httpx.Client", process: "subprocess.Popen[bytes]", output: "IO[bytes]") -> None:
    import httpx

    def is_ready() -> bool:
        if process.poll() is not None:
            raise SlipwayError(
                f"The predictor ended with {process.returncode} before it was ready: {_tail(output)}"
            )
        try:
            return client.get("/v2/health/ready", timeout=1).status_code == 200
        except httpx.HTTPError:
            return False

    if not wait_until(is_ready, timeout=_START_SECONDS):
        raise SlipwayError(
            f"The predictor was not ready after {_START_SECONDS:g} seconds: {_tail(output)}"
        )


def _tail(output: "IO[bytes]") -> str:
    output.seek(0)
    return output.read().decode(errors="replace")[-800:].strip() or "it printed nothing."


def _peak_mb(pid: int) -> float | None:
    """Largest resident size that a process had, in MB (10**6 bytes), where the system tells it."""
    try:
        for line in Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024 / 1e6
    except OSError:
        return None
    return None
