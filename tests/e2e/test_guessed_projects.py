"""The project that init makes of each stranger's table runs, and its model is judged."""

import json
import re
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import httpx
import pytest
from support.guess_cases import CASES, Case
from support.own_tables import customers, orders, write
from support.small_job import free_port, serve_s3
from support.warm import Warm, warm_slipway

CHEAP = (
    "training.model=linear",
    "gate.resamples=100",
    "gate.rehearsal.enabled=false",
    "monitoring.report_rows=0",
)
PAGES = Path(__file__).resolve().parents[2] / "docs" / "start"
REFUSAL = re.compile(
    r"^  (?P<rule>[^:]+): [\d.]+, [^(]*[\d.]+[^(]* \((?P<setting>[^)]+)\)\. Most likely \w"
)


@pytest.fixture(scope="module")
def warm() -> Iterator[Warm]:
    with warm_slipway() as made:
        yield made


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_a_strangers_table_is_judged(name: str, warm: Warm, tmp_path: Path) -> None:
    case = CASES[name]
    written = [str(Path(path).relative_to(tmp_path)) for path in write(tmp_path, case.tables())]
    judge(case, warm, tmp_path, case.places or written, {})


def judge(
    case: Case, warm: Warm, folder: Path, places: Sequence[str], variables: dict[str, str]
) -> None:
    """Init and run in a folder, as far as the case goes."""
    code, said = warm.slipway(folder, "init", *places, *case.options(), **variables)
    assert code == 0, said
    settings = [*CHEAP, f"deployment.port={free_port()}"]
    options = [part for setting in settings for part in ("--set", setting)]
    try:
        traffic = () if case.monitored else ("--traffic", "0d")
        code, screen = warm.slipway(folder, "run", *options, *traffic, **variables)
        assert code == 0, screen
        assert "Traceback" not in screen
        summary = json.loads((folder / "build/run/summary.json").read_text())
        require_verdict(case, summary, screen)
    finally:
        warm.slipway(folder, "stop")


@pytest.mark.slow
def test_tables_in_an_object_store_are_judged_too(warm: Warm, tmp_path: Path) -> None:
    case, port = CASES["a table of customers"], free_port()
    store = f"http://127.0.0.1:{port}"
    variables = {
        "AWS_ENDPOINT_URL": store, "AWS_ALLOW_HTTP": "true", "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ACCESS_KEY_ID": "someone", "AWS_SECRET_ACCESS_KEY": "secret",
    }  # fmt: skip
    signed = {"Authorization": "AWS4-HMAC-SHA256 Credential=a/b/us-east-1/s3/c"}
    (tmp_path / "tables").mkdir()
    (tmp_path / "work").mkdir()
    with serve_s3(port):
        httpx.put(f"{store}/lake", headers=signed).raise_for_status()
        for path in write(tmp_path / "tables", case.tables()):
            place = f"{store}/lake/{Path(path).name}"
            httpx.put(place, content=Path(path).read_bytes(), headers=signed).raise_for_status()
        places = [f"s3://lake/{name}" for name in case.tables()]
        judge(case, warm, tmp_path / "work", places, variables)


def require_verdict(case: Case, summary: dict[str, Any], screen: str) -> None:
    """Passed, served and watched; or refused by these rules alone, each with what to do."""
    assert summary["error"] is None
    if not case.refused:
        assert summary["verdict"] == "pass", screen
        assert summary["endpoint"]
        if case.monitored:
            watched = summary["monitoring"]["summary"]
            assert 0 < watched["labelled"] <= watched["total_predictions"], screen
        return
    assert summary["verdict"] == "fail", screen
    assert summary["endpoint"] is None
    _, _, advice = screen.partition("What to do\n")
    found = [match for line in advice.splitlines() if (match := REFUSAL.match(line))]
    assert {match["rule"]: match["setting"] for match in found} == case.refused, screen


def typed(page: str, heading: str) -> list[str]:
    """The commands below a heading of docs/start, without what is said beside them."""
    section = (PAGES / page).read_text().partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    (block,) = re.findall(r"```sh\n(.*?)```", section, re.DOTALL)
    return [line.partition("#")[0].strip() for line in block.splitlines()]


@pytest.mark.slow
def test_what_the_pages_type_on_one_machine(warm: Warm, tmp_path: Path) -> None:
    """Level 0 of levels.md, and then what five-minutes.md tries with its flights."""
    rows = orders()
    write(tmp_path, {"orders.csv": rows, "customers.csv": customers(rows)})
    port = free_port()
    options = [
        part for setting in (*CHEAP, f"deployment.port={port}") for part in ("--set", setting)
    ]
    said: list[tuple[str, str]] = []
    pages = [("levels.md", "Level 0: by hand"), ("five-minutes.md", "Try the gate")]
    for page, heading in [*pages, ("five-minutes.md", "Ask the model")]:
        for command in typed(page, heading):
            program, *words = shlex.split(command)
            if program == "curl":
                address = words[-1].replace("8080", str(port)).replace("flights", "orders")
                answer = httpx.get(f"http://{address}", timeout=20)
                said.append((command, answer.raise_for_status().text))
                continue
            more = options if words[0] == "run" else []
            code, printed = warm.slipway(tmp_path, *words, *more)
            assert code == 0, printed
            said.append((command, printed))
    said.append(("stop at last", warm.slipway(tmp_path, "stop")[1]))
    expected = {
        "slipway init": "Next: slipway run",
        "slipway run": "Verdict: PASS",
        "slipway status": "orders: version 1 at",
        "slipway run --set gate.auc=0.99": "Verdict: FAIL",
        "curl": '"name":"amount"',
        "slipway stop": "stopped version 1",
        "slipway start": "version 1",
        "stop at last": "stopped version 1",
    }
    for command, printed in said:
        (begins, *_) = sorted((b for b in expected if command.startswith(b)), key=len)[::-1]
        assert expected[begins] in printed, command
    assert len(said) == 9
