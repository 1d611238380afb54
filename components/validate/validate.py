"""The work of validate: every row against the schema; bad rows set apart, each with its reasons."""

import difflib
import json
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from slipway.components.config.base import parse_instant
from slipway.components.contracts.dataset import (
    Manifest,
    TableInfo,
    read_manifest,
    table_files,
    write_manifest,
)
from slipway.components.contracts.rows.content_hash import combined
from slipway.components.contracts.shards import Shard
from slipway.components.contracts.table_schema.checks import Check as RowCheck
from slipway.components.contracts.table_schema.checks import column_checks, type_problem
from slipway.components.contracts.table_schema.frames import evaluates
from slipway.components.contracts.table_schema.rules import table_checks
from slipway.components.contracts.table_schema.schema import RunMoments, TableSchema
from slipway.components.support.errors import SlipwayError
from slipway.components.support.files import new_directory, write_json, write_text
from slipway.components.support.stage import part, stage
from slipway.components.validate.report import render
from slipway.components.validate.results import CheckResult, judge, overall, passed, problem
from slipway.components.validate.rows import Checked, RowChecker, RowGroups
from slipway.components.validate.schema import parse_schema
from slipway.components.validate.unique import repeated_keys

RESULTS_VERSION = 1
_MOST_WAYS = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Validation:
    """What validate found."""

    good: Manifest
    quarantine: Manifest
    checks: tuple[CheckResult, ...]

    @property
    def headline(self) -> str:
        """What came out, in a few words."""
        warnings = sum(check.status == "warn" for check in self.checks)
        return (
            f"{self.good.rows:,} rows good, {self.quarantine.rows:,} set apart,"
            f" {len(self.checks)} checks, {warnings} warnings"
        )


@stage("validate")
def validate_dataset(
    *,
    dataset: Path,
    schema: dict[str, object] | str,
    good: Path,
    quarantine: Path,
    report: Path,
    results: Path,
    project: str = "",
) -> Validation:
    """Checks every row against the schema and sets bad rows apart, each with its reasons.

    Report, results and quarantine are written in any case; `good` only where the schema allows
    what was found.

    Args:
        dataset: the ingested tables.
        schema: the content of the schema file, as text or read.
        good: where the rows that passed appear.
        quarantine: where the others appear: the table's columns, `_reasons` (text) and `_row` (its
            number in the table).
        report: where the HTML report goes.
        results: where the same goes as JSON.
        project: whose data they are, for the report's title.

    Raises:
        SlipwayError: the schema is wrong; or the data are, beyond what it allows: then the message
            lists every check that failed.
    """
    manifest = read_manifest(dataset)
    tables = expected_tables(schema, manifest, datetime.now(UTC))

    def check(name: str, good_folder: Path, bad_folder: Path) -> tuple[list[CheckResult], Checked]:
        prepared, part = (
            prepare(dataset, tables[name], manifest),
            RowGroups.of(dataset, name, Shard()),
        )
        checked = check_rows(dataset, prepared, part, good_folder, bad_folder)
        return judge_table(prepared, checked), checked

    targets = Targets(
        good=good, quarantine=quarantine, report=report, results=results, project=project
    )
    return conclude(manifest, schema, tables, check, targets)


@dataclass(frozen=True, slots=True, kw_only=True)
class Targets:
    """Where the outputs go, and whose data they are, as `validate_dataset` takes them."""

    good: Path
    quarantine: Path
    report: Path
    results: Path
    project: str = ""


def expected_tables(
    schema: dict[str, object] | str, manifest: Manifest, now: datetime
) -> dict[str, TableSchema]:
    """The schema's tables, with the moments of a run in place of their names."""
    moments = RunMoments(
        window_start=parse_instant(manifest.window[0]) if manifest.window else None,
        window_end=parse_instant(manifest.window[1]) if manifest.window else None,
        now=now,
    )
    return parse_schema(schema, moments)


Check = Callable[[str, Path, Path], tuple[list[CheckResult], Checked]]


def conclude(
    manifest: Manifest,
    schema: dict[str, object] | str,
    tables: dict[str, TableSchema],
    check: Check,
    targets: Targets,
) -> Validation:
    """Checks every table that the dataset or the schema has, writes what came out, and judges.

    Args:
        manifest: the dataset's.
        schema: as `validate_dataset` takes it.
        tables: what it says.
        check: checks a table of both, and writes its good rows and the others below two folders.
        targets: where the outputs go.

    Raises:
        SlipwayError: the data are not as the schema says.
    """
    notes = {
        "validated": manifest.content_hash,
        # Later events of these tables are held against it.
        "schema": schema if isinstance(schema, str) else json.dumps(schema),
    }
    with new_directory(targets.good) as good:
        with new_directory(targets.quarantine) as bad:
            validation = _check_tables(manifest, tables, check, (good, bad), notes)
            write_manifest(bad, validation.quarantine)
        write_manifest(good, validation.good)
        _write_results(validation, manifest, targets)
        failed = [each for each in validation.checks if each.status == "fail"]
        if failed:
            # Rows of an earlier try must not be taken for those of this one.
            shutil.rmtree(targets.good, ignore_errors=True)
            ways = list(dict.fromkeys(way for each in failed for way in each.ways))[:_MOST_WAYS]
            raise SlipwayError(
                f"The data are not as the schema says; {len(failed)} of {len(validation.checks)} checks"
                f" failed. {'; '.join(each.sentence for each in failed)}. The report is"
                f" {targets.report}, the rows are in {targets.quarantine}. Mend the source, or change"
                f" the schema if it is what is wrong{': ' if ways else ''}{'; or '.join(ways)}."
            )
    return validation


def _check_tables(
    manifest: Manifest,
    tables: dict[str, TableSchema],
    check: Check,
    folders: tuple[Path, Path],
    notes: dict[str, str],
) -> Validation:
    """Every table of the dataset and the schema; those that one of them lacks fail."""
    checks: list[CheckResult] = []
    goods: dict[str, TableInfo] = {}
    bads: dict[str, TableInfo] = {}
    total = max(sum(info.rows for info in manifest.tables.values()), 1)
    done = 0
    for name in [*manifest.tables, *(n for n in tables if n not in manifest.tables)]:
        if name not in manifest.tables:
            checks.append(problem(name, "table", "the dataset has no such table"))
        elif name not in tables:
            hint = "the schema does not name it; `slipway schema infer` writes a first entry"
            checks.append(problem(name, "table", hint))
        else:
            rows = manifest.tables[name].rows
            with part(done / total, (done + rows) / total):
                found, checked = check(name, *folders)
            done += rows
            checks += found
            goods[name], bads[name] = checked.good(folders[0], name), checked.quarantine
    return Validation(
        good=_manifest(manifest, goods, notes),
        quarantine=_manifest(manifest, bads, notes),
        checks=tuple(checks),
    )


def _manifest(source: Manifest, tables: dict[str, TableInfo], notes: dict[str, str]) -> Manifest:
    return Manifest(
        tables=dict(sorted(tables.items())),
        window=source.window,
        content_hash=combined({name: info.content_hash for name, info in tables.items()}),
        notes=notes,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class TableChecks:
    """What is to be asked of a table's rows, and what its columns alone have answered.

    Attributes:
        schema: what must hold.
        info: what the manifest says.
        results: of the columns.
        checks: of the rows.
        keys: that must be unique and can be looked at.
    """

    schema: TableSchema
    info: TableInfo
    results: tuple[CheckResult, ...]
    checks: list[RowCheck]
    keys: tuple[tuple[str, ...], ...]


def prepare(folder: Path, schema: TableSchema, manifest: Manifest) -> TableChecks:
    """Checks the columns of a table, of which a folder has files.

    Args:
        folder: the dataset, or a part of it.
        schema: what must hold.
        manifest: the whole dataset's.
    """
    import polars as pl
    import pyarrow.parquet as pq

    info = manifest.tables[schema.name]
    arrow = pq.read_schema(table_files(folder, schema.name)[0])
    results = _check_columns(schema, list(arrow.names))
    checks = []
    sound = True
    for column in schema.columns:
        if column.name not in arrow.names:
            sound = False
            continue
        kind = arrow.field(column.name).type
        wrong = type_problem(column, kind, window=column.name == info.time)
        text = f"{column.name}: type"
        if wrong:
            sound = False
            results.append(problem(schema.name, text, wrong))
        else:
            results += [passed(schema.name, text)] if column.kind else []
            with evaluates(schema.name, [column.name]):
                checks += column_checks(column, kind)
    if sound:
        with evaluates(schema.name, arrow.names):
            asked = schema.rules or schema.own_checks
            empty = pl.from_arrow(arrow.empty_table()) if asked else pl.DataFrame()
        assert isinstance(empty, pl.DataFrame)  # noqa: S101
        checks += table_checks(schema, empty)
    elif schema.rules or schema.own_checks or schema.unique or schema.time_order:
        text = "rules, keys and order"
        detail = "not checked, since columns are missing or of another type"
        results.append(problem(schema.name, text, detail))
    return TableChecks(
        schema=schema,
        info=info,
        results=tuple(results),
        checks=checks,
        keys=tuple(schema.unique) if sound else (),
    )


def check_rows(
    dataset: Path, prepared: TableChecks, rows: RowGroups, good: Path, quarantine: Path
) -> Checked:
    """Checks some rows of a table and sets the bad ones apart."""
    name = prepared.schema.name
    repeated = {}
    for key in prepared.keys:
        with evaluates(name, key):
            mask = repeated_keys(dataset, name, key, rows.rows)
        if mask is not None:
            repeated[key] = mask
    checker = RowChecker(dataset, name, prepared.info, prepared.checks, repeated, rows)
    return checker.run(good, quarantine)


def judge_table(prepared: TableChecks, checked: Checked) -> list[CheckResult]:
    """What came out of all checks of a table."""
    name, info = prepared.schema.name, prepared.info
    return [
        *prepared.results,
        *(judge(name, tally, info.rows) for tally in checked.tallies),
        *_check_fractions(prepared.schema, info, checked),
    ]


def _check_columns(schema: TableSchema, found: list[str]) -> list[CheckResult]:
    """The columns that must be there, and those that must not."""
    results = []
    known = {column.name for column in schema.columns}
    others = [name for name in found if name not in known]
    for name in schema.required:
        if name in found:
            results.append(passed(schema.name, f"{name}: required"))
            continue
        near = difflib.get_close_matches(name, others, n=1, cutoff=0.5)
        hint = f"the column is missing; is it {near[0]} now?" if near else "the column is missing"
        results.append(problem(schema.name, f"{name}: required", hint))
    if not schema.others_allowed:
        results += [
            problem(schema.name, f"{name}: additionalProperties", "the schema has no such column")
            for name in others
        ] or [passed(schema.name, "additionalProperties")]
    return results


def _check_fractions(schema: TableSchema, info: TableInfo, checked: Checked) -> list[CheckResult]:
    """What is judged over the whole table: rows, nulls, rows set apart."""
    results = []
    if schema.min_rows:
        text = f"at least {schema.min_rows:,} rows"
        few = info.rows < schema.min_rows
        found = f"there are {info.rows:,}"
        results.append(problem(schema.name, text, found) if few else passed(schema.name, text))
    for column in schema.columns:
        if column.max_null_fraction is None or column.name not in checked.nulls:
            continue
        fraction = checked.nulls[column.name] / info.rows if info.rows else 0.0
        over = fraction > column.max_null_fraction
        results.append(
            CheckResult(
                table=schema.name,
                check=f"{column.name}: null fraction",
                level=column.level,
                status=column.level if over else "pass",
                failed=checked.nulls[column.name],
                fraction=fraction,
                allowed=column.max_null_fraction,
            )
        )
    if schema.tolerance is not None:
        fraction = checked.quarantine.rows / info.rows if info.rows else 0.0
        over = fraction > schema.tolerance
        results.append(
            CheckResult(
                table=schema.name,
                check="rows set apart in all",
                level="fail",
                status="fail" if over else "tolerated" if fraction else "pass",
                failed=checked.quarantine.rows,
                fraction=fraction,
                allowed=schema.tolerance,
            )
        )
    return results


def _write_results(validation: Validation, manifest: Manifest, targets: Targets) -> None:
    """Writes what was found as JSON and as HTML."""
    content = {
        "version": RESULTS_VERSION,
        "project": targets.project,
        "status": overall(validation.checks),
        "window": list(manifest.window or ()),
        "data_hash": manifest.content_hash,
        "tables": {
            name: {
                "rows": info.rows,
                "before": info.before,
                "after": info.after,
                "warnings": list(info.warnings),
                "good": validation.good.tables[name].rows if name in validation.good.tables else 0,
                "quarantine": (
                    validation.quarantine.tables[name].rows
                    if name in validation.quarantine.tables
                    else 0
                ),
            }
            for name, info in manifest.tables.items()
        },
        "checks": [asdict(check) for check in validation.checks],
    }
    write_json(targets.results, content)
    write_text(targets.report, render(content))
