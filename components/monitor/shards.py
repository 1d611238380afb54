"""Monitoring as shards, one task each: the plan that all follow, what a shard finds, and the verdict.

A shard sketches the features of its pieces of the log and hands on the answers, without the features. The
merge adds the sketches up as one task does (`measures.scan`), and goes on with all answers.
"""

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from slipway.components.config.data import Window, parse_window
from slipway.components.config.features.features import FeaturesConfig
from slipway.components.config.kinds import LabelKind
from slipway.components.config.monitoring import MonitoringConfig
from slipway.components.contracts.record import Record
from slipway.components.contracts.shards import Shard, count_shards, put_in_order
from slipway.components.monitor import payloads
from slipway.components.monitor.monitor import (
    MonitoringResult,
    MonitoringTask,
    wait_for_log,
    watch,
)
from slipway.components.support import environment
from slipway.components.support.errors import SlipwayError
from slipway.components.support.files import new_directory
from slipway.components.support.pages.digits import counted
from slipway.components.support.stage import part as part_of_stage
from slipway.components.support.stage import progress, stage

# What measures imports numpy: it comes once the settings are read.
if TYPE_CHECKING:
    import pyarrow as pa

    from slipway.components.monitor.measures.scan import FeatureScan
    from slipway.components.monitor.reference import Reference
    from slipway.components.monitor.window import LogWindow

FILE, NOTE = "plan.json", "shard.json"
ANSWERS, SKETCHES, SAMPLE = "answers.parquet", "sketches.parquet", "sample.parquet"
_DRAW = ":draw"


@dataclass(frozen=True, slots=True, kw_only=True)
class MonitoringPlan(Record):
    """What the shards of a window agree on.

    Attributes:
        files: of the log, below its root, each with the rows of its row groups; empty where KServe's own
            log is read, of which the one shard makes files itself.
        model_version: the version that is measured; None: no row was predicted.
        rows: that it answered.
        count: how many shards there are.
    """

    ABSENT: ClassVar[str] = "holds no plan of a monitoring"

    window: tuple[str, str]
    files: dict[str, list[int]]
    model_version: str | None
    rows: int
    count: int

    @property
    def shards(self) -> list[str]:
        """What each shard's task is given."""
        return [Shard(index=index, of=self.count).text for index in range(self.count)]

    @property
    def headline(self) -> str:
        """What came out, in a few words."""
        return f"{self.rows:,} predictions in {counted(self.count, 'shard')}"

    def open(self, uri: str, model: str) -> "LogWindow":
        """The window's log, with the files of the plan alone.

        Raises:
            SlipwayError: the store cannot be reached.
        """
        from slipway.components.monitor.window import open_files, open_window

        window = parse_window(*self.window)
        if uri.startswith(payloads.SCHEME):
            return open_window(uri, model, window)
        return open_files(uri, model, window, self.files)


@dataclass(frozen=True, slots=True, kw_only=True)
class PieceFindings:
    """What was found in a piece of the log beside its sketches; as in `FeatureScan`."""

    rows: int
    seen: list[str]
    wrong_types: dict[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardFindings(Record):
    """What a shard found. Beside it are its answers, the sketches of each piece, and its sample.

    Attributes:
        index, of: which shard it is.
        plan: hash of the plan that it follows.
        answers: rows of the log, refused requests among them.
        pieces: in their order.
    """

    ABSENT: ClassVar[str] = "holds no shard of a monitoring"

    index: int
    of: int
    plan: str
    answers: int
    pieces: list[PieceFindings] = field(default_factory=list)

    @property
    def note(self) -> dict[str, object]:
        """Which shard it is, of which plan."""
        return {"index": self.index, "of": self.of, "plan": self.plan}

    @property
    def headline(self) -> str:
        """What came out, in a few words."""
        rows = sum(piece.rows for piece in self.pieces)
        return f"{rows:,} predictions compared, shard {self.index + 1} of {self.of}"


@stage("plan-monitoring")
def plan_monitoring(
    *,
    project: str,
    config: dict[str, object],
    window: Window,
    plan: Path,
    shards: int,
    log_uri: str = "",
    wait: Callable[[Window], str] | None = None,
) -> MonitoringPlan:
    """Finds the window's log once it is whole, and settles which version is measured and who reads what.

    Two columns of the log are read.

    Args:
        project: the registered model's name.
        config: the project's `monitoring` section.
        window: of time.
        plan: the folder that the plan appears in.
        shards: how many at most; 0: as many as the rows ask for.
        log_uri: as for `MonitoringTask`.
        wait: as for `monitor_window`.

    Raises:
        SlipwayError: the settings are wrong, or the log cannot be read.
    """
    MonitoringConfig.parse(config, "monitoring")
    if not log_uri:
        wait_for_log(window, wait)

    from slipway.components.monitor.window import find_version, open_window

    progress("looking for the log", 0.0)
    uri = log_uri or environment.inference_log_uri()
    log = open_window(uri, project, window)
    version, versions = find_version(log)
    converted = log.scratch is not None
    pieces = 1 if converted else len(log.pieces())
    rows = sum(sum(sizes) for sizes in log.sizes.values())
    made = MonitoringPlan(
        window=window.texts,
        files={} if converted else {log.below_root(path): log.sizes[path] for path in log.files},
        model_version=version,
        rows=versions.get(version or "", 0),
        count=count_shards(shards, rows=rows, pieces=pieces),
    )
    with new_directory(plan) as folder:
        made.write(folder / FILE)
    return made


@stage("monitor-shard")
def monitor_shard(
    *,
    plan: Path,
    project: str,
    config: dict[str, object],
    features: dict[str, object],
    shard: str,
    part: Path,
    log_uri: str = "",
) -> ShardFindings:
    """Measures one shard of the log; run again it gives the same. Memory does not grow with its rows.

    Args:
        plan: the folder of the plan.
        project: the registered model's name.
        config: the project's `monitoring` section.
        features: its `features` section.
        shard: its text in the plan.
        part: the folder that its findings appear in.
        log_uri: as for `MonitoringTask`.

    Raises:
        SlipwayError: the log or the reference cannot be read, or the log has changed since the plan.
    """
    settings = MonitoringConfig.parse(config, "monitoring")
    kind = FeaturesConfig.parse(features, "features").label.kind
    agreed, given = MonitoringPlan.read(plan / FILE), Shard.parse(shard)

    from slipway.components.monitor.measures.fairness import logged_columns
    from slipway.components.monitor.measures.window_measures import (
        fairness_rules,
        reference_part,
    )
    from slipway.components.monitor.reference import fetch_reference

    log = agreed.open(log_uri or environment.inference_log_uri(), project)
    cut = log.pieces()
    share, version = given.share([len(cut)]), agreed.model_version
    columns: list[str] = []
    if version is not None:
        reference = fetch_reference(project, version, reference_part(settings))
        kind = reference.label.kind
        columns = logged_columns(fairness_rules(reference), list(reference.kinds))
    with new_directory(part) as folder:
        pieces = []
        with part_of_stage(0.0, 0.3):
            windows = [log.of(cut[number]) for number in share]
            answers = _write_answers(windows, kind, columns, folder / ANSWERS)
        if version is not None:
            with part_of_stage(0.3, 1.0):
                pieces = _write_scans(log, version, reference, settings.report_rows, share, folder)
        findings = ShardFindings(
            index=given.index,
            of=given.of,
            plan=_fingerprint(plan),
            answers=answers,
            pieces=pieces,
        )
        findings.write(folder / NOTE)
    return findings


def _write_answers(
    windows: list["LogWindow"], kind: LabelKind, columns: list[str], path: Path
) -> int:
    """Hands on the rows of the pieces without their features; returns how many."""
    import pyarrow.parquet as pq

    from slipway.components.monitor.window import CHUNK, answer_batches, answer_schema

    rows = 0
    with pq.ParquetWriter(path, answer_schema(kind, columns), compression="zstd") as writer:
        for number, window in enumerate(windows, start=1):
            for table in _gather(answer_batches(window, kind, columns), CHUNK):
                writer.write_table(table, row_group_size=CHUNK)
                rows += table.num_rows
            progress(f"{rows:,} rows read", number / len(windows))
    return rows


def _gather(tables: Iterator["pa.Table"], rows: int) -> Iterator["pa.Table"]:
    """The same rows in tables of at least so many, but the last."""
    import pyarrow as pa

    waiting: list[pa.Table] = []
    for table in tables:
        waiting.append(table)
        if sum(each.num_rows for each in waiting) >= rows:
            yield pa.concat_tables(waiting)
            waiting = []
    if waiting:
        yield pa.concat_tables(waiting)


def _write_scans(
    log: "LogWindow",
    version: str,
    reference: "Reference",
    sample_rows: int,
    share: range,
    folder: Path,
) -> list[PieceFindings]:
    """Writes the sketches of each piece and the sample of all; returns what else was found."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from slipway.components.monitor.measures.scan import Sample, scan_pieces

    names = pa.schema([("feature", pa.string()), ("sketch", pa.string())])
    pieces: list[PieceFindings] = []
    drawn: Sample | None = None
    with pq.ParquetWriter(folder / SKETCHES, names, compression="zstd") as writer:
        for scan in scan_pieces(log, version, reference, sample_rows, share):
            texts = [json.dumps(sketch.to_dict()) for sketch in scan.sketches.values()]
            writer.write_table(pa.table([list(scan.sketches), texts], schema=names))
            pieces.append(
                PieceFindings(rows=scan.rows, seen=sorted(scan.seen), wrong_types=scan.wrong_types)
            )
            if scan.drawn is not None:
                drawn = drawn.join(scan.drawn, sample_rows) if drawn else scan.drawn
    if drawn is not None:
        draws = pa.array(drawn.draws)
        pq.write_table(drawn.rows.append_column(_DRAW, draws), folder / SAMPLE)
    return pieces


@stage("merge-monitoring")
def merge_monitoring(
    task: MonitoringTask, *, plan: Path, parts: Sequence[Path]
) -> MonitoringResult:
    """Puts the shards of a window together and judges, as if one task had measured it.

    Args:
        task: as for `monitor_window`, with the plan's window (`planned_window`).
        plan: the folder of the plan.
        parts: the folder of each shard, in any order.

    Raises:
        SlipwayError: a shard is missing, or they follow different plans; or as `monitor_window`.
    """
    settings = MonitoringConfig.parse(task.config, "monitoring")
    agreed = MonitoringPlan.read(plan / FILE)
    found = {part: ShardFindings.read(part / NOTE) for part in parts}
    ordered = put_in_order([(found[part].note, part) for part in parts], "monitoring")
    if found[ordered[0]].plan != _fingerprint(plan):
        raise SlipwayError(f"{ordered[0]} is a shard of another plan than {plan}.")
    progress("putting the shards together", 0.0)
    log = agreed.open(task.log_uri or environment.inference_log_uri(), task.project)
    return watch(
        task, ShardsReader(log, agreed, [(part, found[part]) for part in ordered]), settings
    )


def planned_window(plan: Path) -> Window:
    """The window of a plan."""
    return parse_window(*MonitoringPlan.read(plan / FILE).window)


@dataclass(frozen=True, slots=True)
class ShardsReader:
    """Gives what the shards of a window found, as `LogReader` gives what it reads."""

    log: "LogWindow"
    plan: MonitoringPlan
    parts: list[tuple[Path, ShardFindings]]

    def answers(self, kind: LabelKind, features: Sequence[str] = ()) -> "pa.Table":
        """As `WindowReader`."""
        from fsspec.implementations.local import LocalFileSystem

        from slipway.components.monitor.window import read_answers

        files = [str(part / ANSWERS) for part, _ in self.parts]
        handed = replace(self.log, files=files, filesystem=LocalFileSystem(), sizes={}, groups={})
        return read_answers(handed, kind, features)

    def scan(
        self, logged_version: str, reference: "Reference", sample_rows: int, total: int
    ) -> "FeatureScan":
        """As `WindowReader`.

        Raises:
            SlipwayError: the shards sketched another version, since KServe's log went on after the plan.
        """
        from slipway.components.monitor.measures.scan import join_scans

        if logged_version != self.plan.model_version:
            raise SlipwayError(
                f"The inference log {self.log.uri} has changed since the shards were planned: most rows"
                f" were answered by version {self.plan.model_version or 'none'}, and now by"
                f" {logged_version}. Run the pipeline again."
            )
        return join_scans(self._scans(reference, sample_rows), reference, sample_rows)

    def _scans(self, reference: "Reference", sample_rows: int) -> Iterator["FeatureScan"]:
        """Of each piece; the sample of a shard's pieces is that of the first of them."""
        import pyarrow.parquet as pq

        from slipway.components.contracts.shards import read_groups
        from slipway.components.monitor.measures.scan import FeatureScan, Sample
        from slipway.components.monitor.measures.sketch import sketch_from_dict

        for part, found in self.parts:
            drawn = None
            if sample_rows and (part / SAMPLE).exists():
                rows = pq.ParquetFile(part / SAMPLE).read()
                draws = rows[_DRAW].to_numpy()
                drawn = Sample(rows=rows.drop_columns([_DRAW]), draws=draws)
            groups = read_groups(part / SKETCHES) if found.pieces else iter(())
            for piece, rows in zip(found.pieces, groups, strict=True):
                texts = dict(zip(*(column.to_pylist() for column in rows.columns), strict=True))
                yield FeatureScan(
                    sketches={n: sketch_from_dict(json.loads(texts[n])) for n in reference.kinds},
                    rows=piece.rows,
                    seen=set(piece.seen),
                    wrong_types=piece.wrong_types,
                    drawn=drawn,
                    most=sample_rows,
                )
                drawn = None


def _fingerprint(plan: Path) -> str:
    return hashlib.sha256((plan / FILE).read_bytes()).hexdigest()[:32]
