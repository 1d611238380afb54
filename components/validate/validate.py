"""The work of validate: every row against the schema; bad rows set apart, each with its reasons."""

import difflib
import json
import shutil
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
from slipway.components.contracts.table_schema.checks import column_checks, type_problem
from slipway.components.contracts.table_schema.frames import evaluates
from slipway.components.contracts.table_schema.rules import table_checks
from slipway.components.contracts.table_schema.schema import RunMoments, TableSchema
from slipway.components.support.errors import SlipwayError
from slipway.components.support.files import new_directory, write_json, write_text
from slipway.components.support.stage import part, stage
from slipway.components.validate.report import render
from slipway.components.validate.results import CheckResult, judge, overall, passed, problem
from slipway.components.validate.rows import Checked, RowChecker
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
    moments = RunMoments(
        window_start=parse_instant(manifest.window[0]) if manifest.window else None,
        window_end=parse_instant(manifest.window[1]) if manifest.window else None,
        now=datetime.now(UTC),
    )
    tables = parse_schema(schema, moments)
    with new_directory(good) as good_folder:
        with new_directory(quarantine) as bad_folder:
            notes = {
                "validated": manifest.content_hash,
                # Later events of these tables are held against it.
                "schema": schema if isinstance(schema, str) else json.dumps(schema),
            }
            validation = _validate_tables(dataset, manifest, tables, good_folder, bad_folder, notes)
            write_manifest(bad_folder, validation.quarantine)
        write_manifest(good_folder, validation.good)
        _write_results(validation, manifest, report, results, project)
        failed = [check for check in validation.checks if check.status == "fail"]
        failures = [check.sentence for check in failed]
        if failures:
            # Rows of an earlier try must not be taken for those of this one.
            shutil.rmtree(good, ignore_errors=True)
            ways = list(dict.fromkeys(way for check in failed for way in check.ways))[:_MOST_WAYS]
            raise SlipwayError(
                f"The data are not as the schema says; {len(failures)} of {len(validation.checks)} checks"
                f" failed. {'; '.join(failures)}. The report is {report}, the rows are in"
                f" {quarantine}. Mend the source, or change the schema if it is what is wrong"
                f"{': ' if ways else ''}{'; or '.join(ways)}."
            )
    return validation


def _validate_tables(
    dataset: Path,
    manifest: Manifest,
    tables: dict[str, TableSchema],
    good_folder: Path,
    bad_folder: Path,
    notes: dict[str, str],
) -> Validation:
    """Checks every table that the dataset or the schema has."""
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
            info = manifest.tables[name]
            with part(done / total, (done + info.rows) / total):
                found, checked = _validate_table(
                    dataset, tables[name], info, good_folder, bad_folder
                )
            done += info.rows
            checks += found
            goods[name], bads[name] = checked.good, checked.quarantine
    return Validation(
        good=_manifest(manifest, goods, notes),
        quarantine=_manifest(manifest, bads, notes),
        checks=tuple(checks),
    )


def _manifest(source: Manifest, tables: dict[str, TableInfo], notes: dict[str, str]) -> Manifest:
    return Manifest(
        tables=tables,
        window=source.window,
        content_hash=combined({name: info.content_hash for name, info in tables.items()}),
        notes=notes,
    )


def _validate_table(
    dataset: Path, schema: TableSchema, info: TableInfo, good: Path, quarantine: Path
) -> tuple[list[CheckResult], Checked]:
    """Checks one table: its columns, then its rows, then fractions over the whole."""
    import polars as pl
    import pyarrow.parquet as pq

    arrow = pq.read_schema(table_files(dataset, schema.name)[0])
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
    repeated = {}
    for key in schema.unique if sound else ():
        with evaluates(schema.name, key):
            mask = repeated_keys(dataset, schema.name, key, info.rows)
        if mask is not None:
            repeated[key] = mask
    checked = RowChecker(dataset, schema.name, info, checks, repeated).run(good, quarantine)
    results += [judge(schema.name, tally, info.rows) for tally in checked.tallies]
    results += _check_fractions(schema, info, checked)
    return results, checked


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


def _write_results(
    validation: Validation, manifest: Manifest, report: Path, results: Path, project: str
) -> None:
    """Writes what was found as JSON and as HTML."""
    content = {
        "version": RESULTS_VERSION,
        "project": project,
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
    write_json(results, content)
    write_text(report, render(content))
