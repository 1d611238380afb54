"""Validate as shards, one task each: what a shard finds, and what all of them amount to."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from slipway.components.config.base import parse_instant
from slipway.components.contracts.dataset import (
    TableWriter,
    read_batches,
    read_manifest,
    table_files,
    write_manifest,
)
from slipway.components.contracts.record import Record
from slipway.components.contracts.rows.content_hash import ContentHash
from slipway.components.contracts.shards import Shard, join_files, put_in_order
from slipway.components.support.errors import SlipwayError
from slipway.components.support.files import new_directory, write_text
from slipway.components.support.stage import progress, stage
from slipway.components.validate.results import CheckResult
from slipway.components.validate.rows import EXAMPLES, Checked, CheckTally, RowGroups
from slipway.components.validate.validate import (
    TableChecks,
    Targets,
    Validation,
    check_rows,
    conclude,
    expected_tables,
    judge_table,
    prepare,
)

FILE, GOOD, QUARANTINE, DATASET = "part.json", "good", "quarantine", "dataset"
SCHEMA = "schema.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class TableFindings:
    """What a shard found in its rows of one table.

    Attributes:
        rows: how many it has.
        failed: by check, in their order, how many rows failed. examples: the first few of them.
        nulls: by column.
        taken: as of `Checked`.
    """

    rows: int
    failed: list[int]
    examples: list[list[dict[str, Any]]]
    nulls: dict[str, int]
    taken: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ValidatedShard(Record):
    """What a shard found. Beside it are its good rows, the others, and what was validated.

    Attributes:
        index, of: which shard it is.
        moment: as of `Shard`. dataset, schema: hashes of what was validated, and against what.
    """

    ABSENT: ClassVar[str] = "holds no shard of a validation"

    index: int
    of: int
    moment: str
    dataset: str
    schema: str
    tables: dict[str, TableFindings] = field(default_factory=dict)

    @property
    def headline(self) -> str:
        """What came out, in a few words."""
        rows = sum(table.rows for table in self.tables.values())
        return f"{rows:,} rows checked, shard {self.index + 1} of {self.of}"


@stage("validate-shard")
def validate_shard(
    *, dataset: Path, schema: dict[str, object] | str, shard: str, part: Path
) -> ValidatedShard:
    """Checks the rows of one shard; run again it gives the same files, byte for byte.

    It sees what one task sees of each of its rows: which keys the rows before them have, and the latest
    time there.

    Args:
        dataset: the ingested tables, whole.
        schema: as for `validate_dataset`.
        shard: its text, from the merge of the ingest.
        part: where its rows and findings appear.

    Raises:
        SlipwayError: the schema is wrong. What the data are is judged when all shards are there.
    """
    given = Shard.parse(shard)
    manifest = read_manifest(dataset)
    tables = expected_tables(schema, manifest, parse_instant(given.moment))
    found = {}
    with new_directory(part) as folder:
        for name in [name for name in manifest.tables if name in tables]:
            rows = RowGroups.of(dataset, name, given)
            # A file without a row group is the first shard's.
            if not any(rows.groups) and (given.index or sum(rows.sizes)):
                continue
            prepared = prepare(dataset, tables[name], manifest)
            checked = check_rows(dataset, prepared, rows, folder / GOOD, folder / QUARANTINE)
            found[name] = TableFindings(
                rows=len(rows.rows),
                failed=[tally.failed for tally in checked.tallies],
                examples=[tally.examples for tally in checked.tallies],
                nulls=checked.nulls,
                taken=checked.taken.hex,
            )
        # With what was validated and against what, the merge needs nothing but the shards.
        text = schema if isinstance(schema, str) else json.dumps(schema)
        (folder / DATASET).mkdir()
        write_manifest(folder / DATASET, manifest)
        write_text(folder / DATASET / SCHEMA, text)
        findings = ValidatedShard(
            index=given.index,
            of=given.of,
            moment=given.moment,
            dataset=manifest.content_hash,
            schema=hashlib.sha256(text.encode()).hexdigest()[:32],
            tables=found,
        )
        findings.write(folder / FILE)
    return findings


@stage("merge-validated")
def merge_validated(
    *,
    parts: Sequence[Path],
    good: Path,
    quarantine: Path,
    report: Path,
    results: Path,
    project: str = "",
) -> Validation:
    """Puts the shards together and judges: the files and the verdict of one task, byte for byte.

    Memory holds one row group.

    Args:
        parts: the folder of each shard, in any order.
        good: as for `validate_dataset`.
        quarantine: likewise.
        report: likewise.
        results: likewise.
        project: likewise.

    Raises:
        SlipwayError: a shard is missing, or they are of different validations; or as
            `validate_dataset`.
    """
    found = {part: ValidatedShard.read(part / FILE) for part in parts}
    notes = [(_note(found[part]), part) for part in parts]
    ordered = put_in_order(notes, "validation")
    first = found[ordered[0]]
    manifest = read_manifest(ordered[0] / DATASET)
    schema = (ordered[0] / DATASET / SCHEMA).read_text(encoding="utf-8")
    tables = expected_tables(schema, manifest, parse_instant(first.moment))

    def check(name: str, goods: Path, bads: Path) -> tuple[list[CheckResult], Checked]:
        have = [part for part in ordered if name in found[part].tables]
        prepared = prepare(have[0] / GOOD, tables[name], manifest)
        each = [found[part].tables[name] for part in have]
        if sum(table.rows for table in each) != prepared.info.rows:
            raise SlipwayError(
                f"The shards hold {sum(table.rows for table in each):,} of the table {name}'s"
                f" {prepared.info.rows:,} rows. Run the validation again."
            )
        checked = _join(prepared, have, each, goods, bads)
        return judge_table(prepared, checked), checked

    targets = Targets(
        good=good, quarantine=quarantine, report=report, results=results, project=project
    )
    return conclude(manifest, schema, tables, check, targets)


def _join(
    prepared: TableChecks, parts: list[Path], found: list[TableFindings], goods: Path, bads: Path
) -> Checked:
    """One table's good rows, the others, and what all shards found."""
    import pyarrow.parquet as pq

    name, info = prepared.schema.name, prepared.info
    join_files([part / GOOD / name for part in parts], "part-*.parquet", goods / name)
    schema = pq.read_schema(table_files(parts[0] / QUARANTINE, name)[0])
    apart = TableWriter(bads, name, schema, time=info.time, source=info.source)
    for part in parts:
        for batch in read_batches(part / QUARANTINE, name):
            apart.write(batch)
    progress(f"{name}: {info.rows:,} rows", 1.0)
    taken = ContentHash()
    for table in found:
        taken.merge(ContentHash.parse(table.taken))
    tallies = [
        CheckTally(
            check=check,
            failed=sum(table.failed[number] for table in found),
            examples=[
                # JSON has its keys by name; a check has its columns in an order of its own.
                {"row": each["row"], "values": {c: each["values"][c] for c in check.columns}}
                for table in found
                for each in table.examples[number]
            ][:EXAMPLES],
        )
        for number, check in enumerate(prepared.checks)
    ]
    nulls = {column: sum(table.nulls[column] for table in found) for column in found[0].nulls}
    return Checked(info=info, quarantine=apart.close(), taken=taken, tallies=tallies, nulls=nulls)


def _note(findings: ValidatedShard) -> dict[str, object]:
    return {
        "index": findings.index,
        "of": findings.of,
        "moment": findings.moment,
        "dataset": findings.dataset,
        "schema": findings.schema,
    }
