"""`slipway init`: with tables a project of their own, without them the flights; a file is never lost."""

import json
import os
import pty
import re
import select
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest
import yaml
from support.own_tables import orders, write
from typer.testing import CliRunner

from slipway.commands.cli import app
from slipway.components.config.project import load_project
from slipway.components.support.errors import ProjectError
from slipway.examples import FILES, names

SLIPWAY = Path(sys.executable).parent / "slipway"


def init(*arguments: str) -> str:
    """Runs the command in this process; raises what it raises."""
    done = CliRunner().invoke(app, ["init", *arguments])
    if done.exception and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code == 0, done.output
    return done.output


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    write(tmp_path, {"orders.csv": orders()})
    return tmp_path


def test_a_table_becomes_a_project_and_is_told_of(here: Path) -> None:
    said = init("orders.csv", "--label", "returned")
    for line in (
        "orders: 1,200 rows, 6 columns",
        "  label     returned, binary, positive: yes",
        "  time      placed_at",
        "  key       order_id",
        "  features  3 as they are, 2 of earlier rows",
        "  warning: only 251 test rows",
        "wrote project.yaml",
        "Next: slipway run",
    ):
        assert line in said
    project = load_project(here).project
    assert project.features.label.positive == ("yes",)
    assert project.data.root == "."
    assert project.data.tables["orders"].path == "orders.csv"
    first = (here / "project.yaml").read_text().splitlines()[0]
    assert first == "# yaml-language-server: $schema=schemas/project.schema.json"
    assert json.loads((here / "schemas/project.schema.json").read_text())["properties"]["gate"]


def test_the_data_may_lie_elsewhere(here: Path) -> None:
    (here / "lake").mkdir()
    (here / "orders.csv").rename(here / "lake/orders.csv")
    said = init("lake/orders.csv", "--label", "returned", "--out", "shop", "--name", "shop")
    assert "Next: cd shop && slipway run" in said
    project = load_project(here / "shop").project
    assert (project.project_name, project.data.root) == ("shop", "../lake")
    assert (here / "shop" / project.data.root / project.data.tables["orders"].path).is_file()


def test_a_second_time_writes_nothing_and_another_answer_needs_force(here: Path) -> None:
    init("orders.csv", "--label", "returned")
    before = (here / "project.yaml").read_bytes()
    assert "wrote" not in init("orders.csv", "--label", "returned")
    with pytest.raises(ProjectError, match=r"project\.yaml is there already .* --force"):
        init("orders.csv", "--label", "returned", "--positive", "no")
    several = r"project\.yaml, schemas/input\.json.* are there already and say something else"
    with pytest.raises(ProjectError, match=several):
        init("orders.csv", "--label", "amount", "--name", "other")
    assert (here / "project.yaml").read_bytes() == before
    init("orders.csv", "--label", "returned", "--positive", "no", "--force")
    assert load_project(here).project.features.label.positive == ("no",)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["orders.csv"], r"Which column is to be predicted\? One of: order_id, .*--label"),
        (["none.csv", "--label", "y"], "there is nothing at"),
        (["--label", "y"], "give them too, as in `slipway init DATA`"),
        (["orders.csv", "--label", "returned", "--format", "excel"], "one of parquet, csv"),
        (
            ["orders.csv", "--label", "returned", "--time", "amount"],
            "--time amount: that is of type",
        ),
        (
            ["orders.csv", "--label", "returned", "--key", "channel"],
            "1,197 rows of orders share it",
        ),
        (["orders.csv", "--label", "returned", "--name", "My Shop"], "'My Shop' is not a name"),
    ],
)
def test_what_cannot_be_is_refused_and_nothing_written(
    here: Path, arguments: list[str], said: str
) -> None:
    with pytest.raises(Exception, match=said):
        init(*arguments)
    assert sorted(path.name for path in here.iterdir()) == ["orders.csv"]


def test_a_row_without_its_key_or_its_group_is_seen_before_a_run(here: Path) -> None:
    """Neither can be drawn into a part: the run would refuse the rows."""
    table = orders().drop("order_id").with_row_index("line_id", offset=1)
    gap = pl.int_range(pl.len()) % 100 == 0
    count = pl.int_range(pl.len())
    table = table.with_columns(
        shop=pl.when(gap).then(None).otherwise(pl.lit("s") + (count % 30).cast(str))
    )
    write(here, {"orders.csv": table})
    with pytest.raises(ProjectError, match=r"--key shop: 12 of 1,200 rows of orders have none"):
        init("orders.csv", "--label", "returned", "--key", "line_id", "--key", "shop")
    table = table.select("amount", "returned", shop_id="shop")
    write(here, {"orders.csv": table})
    init("orders.csv", "--label", "returned")
    assert load_project(here).project.features.split.method != "group"


def test_without_a_terminal_a_question_names_the_option_and_exits_with_2(here: Path) -> None:
    table = orders().with_columns(
        returned=pl.when(pl.col("returned") == "yes").then(2).otherwise(1)
    )
    write(here, {"orders.csv": table})
    done = subprocess.run(
        [SLIPWAY, "init", "orders.csv", "--label", "returned"], capture_output=True, text=True
    )
    assert done.returncode == 2
    said = " ".join(done.stderr.split())
    assert "Which value of returned is positive? One of: 1, 2. Say it with --positive." in said


def test_on_a_terminal_it_asks(here: Path) -> None:
    table = orders().with_columns(
        returned=pl.when(pl.col("returned") == "yes").then(2).otherwise(1)
    )
    write(here, {"orders.csv": table})
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [SLIPWAY, "init", "orders.csv", "--label", "returned"],
        stdin=theirs, stdout=theirs, stderr=theirs,
    )  # fmt: skip
    os.close(theirs)
    said, answered = "", False
    while select.select([ours], [], [], 120)[0]:
        try:
            said += os.read(ours, 4096).decode()
        except OSError:  # the other end is closed
            break
        if "is positive?" in said and not answered:
            os.write(ours, b"2\n")
            answered = True
    assert process.wait(10) == 0, said
    assert load_project(here).project.features.label.positive == ("2",)


def test_a_folder_of_files_is_one_table(here: Path) -> None:
    table = orders()
    half = table.height // 2
    write(here, {"monthly/a.parquet": table[:half], "monthly/b.parquet": table[half:]})
    init("monthly", "--label", "returned", "--out", "shop")
    tables = yaml.safe_load((here / "shop/project.yaml").read_text())["data"]["tables"]
    assert tables == {"monthly": {"path": "monthly", "format": "parquet", "time": "placed_at"}}


def test_without_tables_the_example_is_written(tmp_path: Path, repository: Path) -> None:
    example = repository / "examples/flights"
    (tmp_path / "build/lake").mkdir(parents=True)
    init(str(tmp_path / "flights"))
    for name in ("project.yaml", "schemas/input.json"):
        assert (tmp_path / "flights" / name).read_bytes() == (example / name).read_bytes()


def test_an_example_is_written_with_its_data(here: Path, repository: Path) -> None:
    said = init("--example", "digits", "d")
    assert "Next: cd d && slipway run" in said
    for name in FILES:
        assert (here / "d" / name).read_bytes() == (
            repository / "examples/digits" / name
        ).read_bytes()
    table = pl.read_parquet(here / "d/build/digits/digits.parquet")
    assert table.shape == (1797, 65) and table["digit"].n_unique() == 10
    init("--example", "digits", "--out", "d")  # what is there and the same stays
    with pytest.raises(ProjectError, match=r"there already.*slipway init --example tumours DIR"):
        init("--example", "tumours", "d")
    assert not (here / "d/build/tumours").exists()


def test_every_folder_of_an_example_can_be_written(here: Path, repository: Path) -> None:
    folders = {
        path.name for path in (repository / "examples").iterdir() if path.name[0] not in "_."
    }
    assert set(names()) == folders
    for name in names():
        assert load_project(repository / "examples" / name).project.project_name == name
        assert f"`{name}`" in (repository / "docs/index.md").read_text()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (
            ["--example", "iris"],
            "there is no such example",
        ),
        (["--example", "digits", "orders.csv"], "brings its own tables"),
        (["--example", "digits", "--label", "returned"], "brings its own tables"),
        (["--example", "digits", "--ci-only"], "give it no tables"),
    ],
)
def test_an_example_that_is_not_there_or_has_tables_is_refused(
    arguments: list[str], says: str, here: Path
) -> None:
    before = set(here.rglob("*"))
    with pytest.raises(ProjectError, match=says):
        init(*arguments)
    assert set(here.rglob("*")) == before


def test_project_ci_or_both(here: Path) -> None:
    both = init("orders.csv", "--label", "returned")
    assert "wrote .github/workflows/promote.yaml" in both
    workflow = yaml.safe_load((here / ".github/workflows/promote.yaml").read_text())
    runs = [step["run"] for step in workflow["jobs"]["dev"]["steps"] if "run" in step]
    # A project's own repository has no Makefile of ours.
    assert re.fullmatch(r"python -m pip install --quiet 'kfp-slipway\[cluster\]==[\d.]+'", runs[0])
    assert not any("make" in run for run in runs)
    init("orders.csv", "--label", "returned", "--out", "alone", "--project-only")
    assert not (here / "alone/.github").exists()
    with (here / "alone/project.yaml").open("a") as file:
        file.write("\nci_cd_platform: gitlab-ci\n")
    assert init("--ci-only", "--out", "alone").split() == ["wrote", "alone/.gitlab-ci.yml"]
    content = yaml.safe_load((here / "alone/.gitlab-ci.yml").read_text())
    assert content["check"]["script"][1:] == [
        "slipway compile --project $PROJECT_FOLDER", "git diff --exit-code compiled",
    ]  # fmt: skip


def test_ci_only_needs_a_project_and_no_tables(here: Path) -> None:
    with pytest.raises(ProjectError, match=r"no project\.yaml in"):
        init("--ci-only")
    with pytest.raises(ProjectError, match="give it no tables"):
        init("orders.csv", "--ci-only")


@pytest.mark.parametrize(
    ("form", "odd", "said"),
    [
        ("{:.2f}", "abc", "some of its values are not: 'abc'"),
        (
            '"{:,.2f}"',
            '"1,007.50"',
            "it is written as '100.00', and the file's numbers are read with",
        ),
        ("{:.2f} kg", "", "its values have a unit or a currency, as '100.00 kg'"),
        ("{:.2f}", "7.5", "with --number amount: it writes `types: {amount: number}`"),
        ("{:.2f}", "", ""),
        ("street {:.0f}", "", ""),
    ],
)
def test_a_number_that_is_lost_to_a_few_values_is_said(
    form: str, odd: str, said: str, here: Path
) -> None:
    rows = ["id,visits,amount,bought"]
    for n in range(400):
        text = odd if odd and n == 7 else form.format(100 + n * 1.37)
        rows.append(f"k{n},{n % 17},{text},{'yes' if n % 3 else 'no'}")
    (here / "buys.csv").write_text("\n".join(rows) + "\n")
    printed = " ".join(init("buys.csv", "--label", "bought", "--out", str(here / "p")).split())
    assert ("amount looks like a number and is taken as text" in printed) == bool(said)
    assert said in printed


def test_a_number_in_two_ways_becomes_one_by_an_option(here: Path) -> None:
    """Also where its file has decimal commas; the project says so, and how it was read stays true."""
    rows = ["id;amount;bought"]
    rows += [f"k{n};{n / 4:g};{'yes' if n % 3 else 'no'}".replace(".", ",") for n in range(400)]
    rows[6] = "k5;5,10;no"
    (here / "buys.csv").write_text("\n".join(rows) + "\n")
    with pytest.raises(ProjectError) as refused:
        init("buys.csv", "--label", "bought", "--out", str(here / "p"))
    said = str(refused.value)
    assert "buys has no column to predict bought from. The others: amount (free text or" in said
    assert "id (it names a row)" in said and "features.views" not in said
    assert "not all written in one way, as 0 beside 5,10" in said and "--number amount" in said
    command = ("buys.csv", "--label", "bought", "--number", "amount", "--out", str(here / "q"))
    assert "amount looks like" not in init(*command)
    project = load_project(here / "q").project
    assert project.data.tables["buys"].types == {"amount": "number"}
    assert "amount" in project.features.views[0].fields


@pytest.mark.parametrize(
    ("flag", "value"),
    [(f, v) for f in ("--exclude", "--key", "--time", "--number") for v in ("nope", "Amuont")]
    + [("--table", "nope"), ("--table", "ordrs")],
)
def test_an_option_that_names_nothing_is_refused(flag: str, value: str, here: Path) -> None:
    with pytest.raises(ProjectError, match=re.escape(f"{flag} {value}: ")) as refused:
        init("orders.csv", "--label", "returned", flag, value)
    said = str(refused.value)
    assert ("Did you mean" in said) == (value != "nope")
    assert "amount" in said or "There are: orders" in said
    assert not (here / "project.yaml").exists()
