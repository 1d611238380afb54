"""The table of docs/faults.md is of one run: what passed is kept, what another run counted is not."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from support import fault_points
from support.fault_points import MARK, Journal, count


@pytest.fixture(autouse=True)
def tallies(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(fault_points, "TALLIES", [])
    monkeypatch.setattr(fault_points, "_code", lambda: "as it is")
    yield


def passed(journal: Journal, test: str, what: str) -> None:
    fault_points.TALLIES.clear()
    tally = count(what, "SIGKILL")
    tally.outcomes.update(["whole", "whole", "nothing"])
    journal.add(test)


def test_a_run_goes_on_where_it_was_broken_off(tmp_path: Path) -> None:
    passed(Journal(tmp_path / "j"), "a", "ingest")
    assert Journal(tmp_path / "j").passed == {"a"}


@pytest.mark.parametrize(("name", "value"), [("SEED", 7), ("SCALE", 99), ("_code", lambda: "new")])
def test_another_run_begins_anew(
    name: str, value: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    passed(Journal(tmp_path / "j"), "a", "ingest")
    monkeypatch.setattr(fault_points, name, value)
    assert Journal(tmp_path / "j").passed == set()


def test_the_table_has_the_rows_of_the_run_and_no_others(tmp_path: Path) -> None:
    page = tmp_path / "faults.md"
    page.write_text(f"# Faults\n\n{MARK}| old | SIGKILL | 9 | 9 whole |\n")
    passed(Journal(tmp_path / "j"), "a", "ingest")
    journal = Journal(tmp_path / "j")
    passed(journal, "b", "train")
    journal.write_table(["a", "b"], page)
    head, _, table = page.read_text().partition(MARK)
    assert head == "# Faults\n\n" and "old" not in table
    assert "6 points" in table.splitlines()[0]
    assert table.splitlines()[4:] == [
        "| ingest | SIGKILL | 3 | 1 nothing, 2 whole |",
        "| train | SIGKILL | 3 | 1 nothing, 2 whole |",
    ]
    assert Journal(tmp_path / "j").passed == set()
