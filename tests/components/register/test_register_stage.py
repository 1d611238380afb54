"""Registration: what gets in, what never does, and what is kept as evidence."""

import html
import json
import os
import re
import shutil
import sqlite3
import threading
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from mlflow.store.model_registry.dbmodels.models import SqlRegisteredModelAlias
from sqlalchemy import event
from sqlalchemy.orm import Session
from support import gate_world as world
from support.registration import FAILED, PASSED, PROVENANCE, passed, register
from support.registry import mlflow_client
from typer.testing import CliRunner

from slipway.commands.cli import app
from slipway.components.contracts.bundle import (
    ONNX,
    TRAINING,
    bundle_hash,
    read_bundle,
)
from slipway.components.contracts.release import Release
from slipway.components.contracts.splits import read_part, read_splits, write_splits
from slipway.components.contracts.verdict import Override, write_verdict
from slipway.components.register import register as stage
from slipway.components.register.evidence import RegistrationInputs
from slipway.components.register.evidence_report import show_evidence
from slipway.components.register.index import SeedFacts
from slipway.components.register.register import register_model
from slipway.components.support.errors import SlipwayError
from slipway.components.support.files import hash_file, write_json
from slipway.components.support.tracking import RegisteredVersion, connect
from slipway.local.evidence_page import write_evidence_page


def versions() -> list[Any]:
    return list(mlflow_client().search_model_versions("name = 'toy'"))


def test_a_passed_model_is_registered_whole(
    bundle: Path, splits: Path, tmp_path: Path, registry: str
) -> None:
    result = register(bundle, passed(bundle), splits, tmp_path)
    assert Release.read(tmp_path / "release.json") == result
    assert (result.name, result.model_version, result.alias) == ("toy", "1", "challenger")
    assert result.model_hash == bundle_hash(bundle)
    json.dumps(result.metadata())

    # What deploy and monitor fetch.
    fetched = Path(mlflow.artifacts.download_artifacts(result.bundle_uri))
    assert bundle_hash(fetched) == result.model_hash
    reference = Path(mlflow.artifacts.download_artifacts(result.reference_uri))
    rows = pq.read_table(reference / "reference.parquet")
    facts = json.loads((reference / "reference.json").read_text())
    assert facts["rows"] == facts["sampled"] == {"train": 6000, "test": 6000}
    assert facts["release"] == {"accuracy": 0.76, "f1": 0.6, "auc": 0.8}
    assert facts["threshold"] == 0.4
    test = rows.filter(np.array(rows["part"].to_pylist()) == "test")
    assert test["row_id"].to_pylist() == read_part(splits, "test")["row_id"].to_pylist()
    probability = test["probability"].to_numpy()
    assert facts["probability_mean"]["test"] == pytest.approx(probability.mean())
    assert np.array_equal(test["predicted"].to_numpy(), probability >= np.float32(0.4))
    assert set(read_part(splits, "test").column_names) <= set(rows.column_names)

    # A proper MLflow model, which answers as the bundle does.
    client = mlflow_client()
    version = client.get_model_version_by_alias("toy", "challenger")
    assert (str(version.version), version.run_id) == ("1", result.run_id)
    model = mlflow.pyfunc.load_model("models:/toy@challenger")
    assert model.metadata.signature.inputs.input_names() == ["a", "b", "loud", "colour", "at"]
    assert model.metadata.saved_input_example_info is not None
    row = {"loud": [1.0], "colour": ["red"], "a": [2.0], "b": [0.0], "at": [0]}
    expected = 1 / (1 + np.exp(-(1.5 * 2 + 0.5 - 1)))
    answer = model.predict(pd.DataFrame(row))
    assert answer["probability"] == pytest.approx([expected], abs=1e-5)
    many = model.predict(pd.DataFrame({name: value * 3 for name, value in row.items()}))
    assert many["probability"].tolist() == answer["probability"].tolist() * 3
    assert client.get_run(result.run_id).data.metrics["test_auc"] == 0.8
    files = [
        path for path in tmp_path.rglob("*") if path.suffix in (".pkl", ".pickle", ".cloudpickle")
    ]
    assert files == []


def test_the_reference_has_rows_without_a_label_in_their_share(
    bundle: Path, splits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is served and scored has both kinds; a third of each window here, and kept in part."""
    from slipway.components.contracts.splits import UNLABELLED, read_splits, write_splits
    from slipway.components.register import reference as module

    folder = tmp_path / "splits"
    shutil.copytree(splits, folder)
    tables = []
    for part in ("train", "test"):
        table = read_part(splits, part).slice(0, 3000)
        key = pa.array([f"{part}-without-{i}" for i in range(3000)])
        table = table.set_column(table.column_names.index("row_id"), "row_id", key)
        none = pa.nulls(3000, table["label"].type)
        table = table.set_column(table.column_names.index("label"), "label", none)
        tables.append(table.append_column("part", pa.array([part] * 3000)))
    pq.write_table(pa.concat_tables(tables), folder / UNLABELLED)
    counts = {"train": 3000, "test": 3000}
    write_splits(folder, replace(read_splits(folder), unlabelled=counts))
    for most, step in ((50_000, 1), (3000, 3)):
        monkeypatch.setattr(module, "MAX_ROWS", most)
        out = tmp_path / f"reference-{most}"
        out.mkdir()
        module.write_reference(
            out,
            splits_path=folder,
            splits=read_splits(folder),
            bundle_path=bundle,
            bundle=read_bundle(bundle),
            verdict=passed(bundle),
        )
        rows = pq.read_table(out / "reference.parquet")
        for part in ("train", "test"):
            mine = rows.filter(pc.equal(rows["part"], part))
            without = mine.filter(pc.is_null(mine["label"]))
            assert (mine.num_rows, without.num_rows) == (9000 // step, 3000 // step)
            assert all(key.startswith(f"{part}-without") for key in without["row_id"].to_pylist())
            assert without["probability"].null_count == 0
            times = mine["event_timestamp"].to_pylist()
            assert times == sorted(times)


def test_the_same_bundle_gives_the_same_version(
    bundle: Path, splits: Path, tmp_path: Path, registry: str
) -> None:
    first = register(bundle, passed(bundle), splits, tmp_path)
    assert register(bundle, passed(bundle), splits, tmp_path) == first
    other = tmp_path / "other"
    world.make_bundle(other, threshold=0.45)
    second = register(other, passed(other), splits, tmp_path)
    assert (second.model_version, second.alias) == ("2", "challenger")
    again = register(bundle, passed(bundle), splits, tmp_path)
    assert again == first
    assert str(mlflow_client().get_model_version_by_alias("toy", "challenger").version) == "1"
    assert len(versions()) == 2


def test_the_same_model_of_two_trainings_is_one_version(
    splits: Path, tmp_path: Path, registry: str
) -> None:
    """Each training has a run of its own and takes its own time; neither is a part of the model."""
    results = []
    for name, seconds in (("first", 3.5), ("second", 4.25)):
        folder = tmp_path / name
        world.make_bundle(folder)
        log = {"mlflow_run_id": connect().open_run("toy"), "seconds": seconds}
        write_json(folder / TRAINING, log)
        results.append(register(folder, passed(folder), splits, tmp_path))
    assert results[0] == results[1]
    assert len(versions()) == 1
    # A digit of the threshold is another model.
    other = tmp_path / "other"
    world.make_bundle(other, threshold=0.43)
    assert register(other, passed(other), splits, tmp_path).model_hash != results[0].model_hash
    assert len(versions()) == 2
    assert show_evidence("toy").problems == ()


def test_the_training_run_is_used_where_it_is_known(
    splits: Path, tmp_path: Path, registry: str
) -> None:
    run = connect().open_run("toy")
    for name, run_id, known in (("known", run, True), ("unknown", "0" * 32, False)):
        folder = tmp_path / name
        world.make_bundle(folder, threshold=0.41 if known else 0.42)
        write_json(folder / TRAINING, {"mlflow_run_id": run_id})
        result = register(folder, passed(folder), splits, tmp_path)
        assert (result.run_id == run) == known


def test_a_run_that_kubeflow_s_plug_in_opened_is_not_opened_again(
    splits: Path, tmp_path: Path, registry: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every task has one (KEP-12862). The version is of the training's, if there is one."""
    client = mlflow_client()
    experiment = client.create_experiment("KFP-Default", (tmp_path / "files").as_uri())
    training, mine = (client.create_run(experiment).info.run_id for _ in range(2))
    monkeypatch.setenv("MLFLOW_EXPERIMENT_ID", experiment)
    for name, notes, used in (
        ("joined", {"mlflow_run_id": training}, training),
        ("never heard of it", {}, mine),
    ):
        # MLflow forgets it at the end of a run; each task is a process of its own.
        monkeypatch.setenv("MLFLOW_RUN_ID", mine)
        folder = tmp_path / name
        world.make_bundle(folder, threshold=0.41 if notes else 0.42)
        write_json(folder / TRAINING, notes)
        assert register(folder, passed(folder), splits, tmp_path).run_id == used
    runs = client.search_runs([e.experiment_id for e in client.search_experiments()])
    assert {run.info.run_id for run in runs} == {training, mine}


def changed(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("a fail", "The gate refused this model: F1 is below 0.5: 0.4."),
        ("pass with a failed rule", "says pass, but its rules do not"),
        ("pass without rules", "says pass, but its rules do not"),
        ("another model", "The verdict is about a model with the hash 000000000000"),
        ("other data", "The verdict was reached on data with the hash eeeeeeeeeeee"),
        ("one byte of the model changed", "it was changed after it was evaluated"),
        ("one byte of the signature changed", "it was changed after it was evaluated"),
        ("a file was added", "it was changed after it was evaluated"),
        ("half a file", "is damaged"),
    ],
)
def test_refused(name: str, reason: str, splits: Path, tmp_path: Path, registry: str) -> None:
    bundle = tmp_path / "bundle"
    world.make_bundle(bundle)
    verdict = passed(bundle)
    verdict = {
        "a fail": replace(verdict, outcome="fail", rules=(PASSED, FAILED)),
        "pass with a failed rule": replace(verdict, rules=(PASSED, FAILED)),
        "pass without rules": replace(verdict, rules=()),
        "another model": replace(verdict, model_hash="0" * 64),
        "other data": replace(verdict, data_hash="e" * 64),
    }.get(name, verdict)
    if name == "one byte of the model changed":
        changed(bundle / ONNX)
    elif name == "one byte of the signature changed":
        text = (bundle / "bundle.json").read_text()
        (bundle / "bundle.json").write_text(text.replace('"threshold": 0.4', '"threshold": 0.3'))
    elif name == "a file was added":
        (bundle / "extra.txt").write_text("x")
    write_verdict(tmp_path / "verdict.json", verdict)
    (tmp_path / "card.html").write_text("card")
    if name == "half a file":
        text = (tmp_path / "verdict.json").read_text()
        (tmp_path / "verdict.json").write_text(text[: len(text) // 2])
    with pytest.raises(SlipwayError) as error:
        register_model(
            RegistrationInputs(
                bundle_path=bundle,
                splits_path=splits,
                verdict_path=tmp_path / "verdict.json",
                card_path=tmp_path / "card.html",
                provenance=PROVENANCE,
            ),
            project="toy",
            release_path=tmp_path / "release.json",
        )
    assert reason in str(error.value)
    assert not (tmp_path / "release.json").exists()
    assert versions() == []


def test_an_override_is_written_into_the_registry(
    bundle: Path, splits: Path, tmp_path: Path, registry: str
) -> None:
    override = Override(approver="Ada Lovelace", reason="pilot for one week")
    verdict = passed(bundle, rules=(PASSED, FAILED), override=override)
    register(bundle, verdict, splits, tmp_path)
    (version,) = versions()
    assert "Let through by Ada Lovelace: pilot for one week on" in version.description
    assert version.tags["slipway.override_approver"] == "Ada Lovelace"
    assert version.tags["slipway.override_reason"] == "pilot for one week"
    report = show_evidence("toy")
    assert report.problems == ()
    assert report.index.verdict.override == override
    assert "override       Ada Lovelace: pilot for one week" in report.text


def test_an_override_of_a_version_that_is_registered_already_is_as_loud(
    bundle: Path, splits: Path, tmp_path: Path, registry: str
) -> None:
    """First the rules let it pass; with stricter ones a person does. The registry must say so."""
    first = register(bundle, passed(bundle), splits, tmp_path)
    override = Override(approver="Ada Lovelace", reason="pilot for one week")
    again = register(
        bundle, passed(bundle, rules=(PASSED, FAILED), override=override), splits, tmp_path
    )
    assert again == first
    (version,) = versions()
    assert version.tags["slipway.override_approver"] == "Ada Lovelace"
    report = show_evidence("toy")
    assert report.problems == ()
    assert "override       Ada Lovelace: pilot for one week" in report.text


# Evidence.


EVIDENCE = (
    "verdict.json",
    "card.html",
    "schema.json",
    "features.json",
    "splits.json",
    "bundle.json",
    "training.json",
    "requirements.txt",
    "sbom.cdx.json",
)


def test_evidence_holds_and_every_change_is_seen(
    splits: Path, tmp_path: Path, registry: str
) -> None:
    bundle = tmp_path / "bundle"
    world.make_bundle(bundle)
    write_json(bundle / TRAINING, {"seed": 0, "packages": {"torch": "2.13.0"}})
    result = register(bundle, passed(bundle), splits, tmp_path)
    report = show_evidence("toy", "challenger")
    assert report.problems == ()
    assert report.files == len(report.index.files) + 1
    assert "all match" in report.text and result.model_hash in report.text
    index = report.index
    assert index.data.hash == "d" * 64
    assert index.features.names == ["a", "b", "colour", "loud", "at"]
    assert index.runs.mlflow == result.run_id
    assert index.runs.pipeline == "run-17"
    assert index.seeds == SeedFacts(training=0, gate=3)
    assert index.images == PROVENANCE.images
    assert index.verdict.notes["rehearsal"] == "200 rows, p99 2.0 ms"
    assert len(index.code.commit) in (0, 40)
    assert index.verdict.outcome == "pass"
    assert index.files["bundle/model.onnx"] == hash_file(bundle / ONNX)
    assert {f"evidence/{name}" for name in EVIDENCE} | {"model/model.onnx", "model/MLmodel"} <= set(
        index.files
    )
    for line in (
        "images         1 by digest, by tag only: register",
        "seeds          gate 3, training 0",
    ):
        assert line in report.text
    stored = mlflow_client().get_run(result.run_id).info.artifact_uri.removeprefix("file://")
    (place,) = Path(stored).glob("release-*")
    (evidence,), (reference,) = place.glob("evidence-*"), place.glob("reference-*")
    assert json.loads((evidence / "schema.json").read_text()) == PROVENANCE.schema
    assert json.loads((evidence / "features.json").read_text()) == PROVENANCE.features
    assert "onnxruntime==" in (evidence / "requirements.txt").read_text()
    assert (evidence / "requirements-train.txt").read_text() == "torch==2.13.0\n"
    bill = json.loads((evidence / "sbom.cdx.json").read_text())
    assert (bill["bomFormat"], bill["specVersion"]) == ("CycloneDX", "1.6")
    stages = {
        part["name"]: [entry["value"] for entry in part["properties"]]
        for part in bill["components"]
        if (part["name"], part["version"]) == ("torch", "2.13.0") or part["name"] == "onnxruntime"
    }
    assert stages == {"torch": ["train"], "onnxruntime": ["register"]}
    subject = bill["metadata"]["component"]
    assert (subject["type"], subject["name"]) == ("machine-learning-model", "toy")
    assert subject["hashes"] == [{"alg": "SHA-256", "content": hash_file(bundle / ONNX)}]

    logged = Path(
        mlflow_client().get_model_version("toy", "1").source.removeprefix("models:/")
    ).name
    (model,) = Path(stored).parents[1].glob(f"models/{logged}/artifacts")
    verdict = evidence / "verdict.json"
    kept = {
        path: path.read_bytes() for f in (place, model) for path in f.rglob("*") if path.is_file()
    }
    kept_index = (evidence / "evidence.json").read_text()
    page = tmp_path / "evidence.html"
    changes = {
        "bundle/model.onnx was changed.": lambda: changed(place / "bundle" / ONNX),
        "The bundle is not the one": lambda: changed(place / "bundle" / "bundle.json"),
        "reference/reference.parquet was changed.": lambda: changed(
            reference / "reference.parquet"
        ),
        "model/model.onnx was changed.": lambda: changed(model / "model.onnx"),
        "evidence/card.html is missing.": lambda: (evidence / "card.html").unlink(),
        "evidence/schema.json was changed.": lambda: (evidence / "schema.json").write_text("{}"),
        "reference/more.txt was added.": lambda: (reference / "more.txt").write_text("x"),
        "reference/evidence.json was added.": lambda: (reference / "evidence.json").write_text("x"),
        "model/model.sig was added.": lambda: (model / "model.sig").write_text("x"),
        "evidence/verdict.json was changed.": lambda: verdict.write_text(
            verdict.read_text().replace('"test_rows": 6000', '"test_rows": 9000')
        ),
        "evidence.json is not the one that was registered": lambda: write_json(
            evidence / "evidence.json", {**asdict(index), "code": {"commit": "0" * 40}}
        ),
    }
    for problem, change in changes.items():
        change()
        broken = show_evidence("toy", "1")
        assert any(problem in found for found in broken.problems), problem
        assert f"PROBLEM        {broken.problems[0]}" in broken.text
        write_evidence_page(page, broken)
        assert "Do not trust this version." in page.read_text()
        assert broken.problems[0] in html.unescape(page.read_text())
        for added in (reference / "more.txt", reference / "evidence.json", model / "model.sig"):
            added.unlink(missing_ok=True)
        for path, content in kept.items():
            path.write_bytes(content)
    assert show_evidence("toy", "1").problems == ()
    for damage, told in {
        '"rules": "one"': "verdict.rules is .* and must be a whole number",
        '"rule": 1': "this release knows no field verdict.rule",
    }.items():
        text = kept_index.replace('"rules": 1', damage)
        assert text != kept_index
        (evidence / "evidence.json").write_text(text)
        with pytest.raises(SlipwayError, match=told):
            show_evidence("toy", "1")


ANNEX_IV = [
    "1. General description of the AI system",
    "2. Elements of the system and how it was developed",
    "3. Monitoring, functioning and control",
    "4. Appropriateness of the performance metrics",
    "5. Risk management (Article 9)",
    "6. Changes through the lifecycle",
    "7. Standards applied",
    "8. EU declaration of conformity",
    "9. Post-market monitoring (Article 72)",
]


def test_technical_documentation_says_what_the_evidence_says_and_leaves_the_rest_open(
    bundle: Path, splits: Path, tmp_path: Path, registry: str
) -> None:
    rule = replace(PASSED, name="auc [colour=<b>red|</b>]", value=0.75, rows=321)
    verdict = passed(bundle, rules=(PASSED, rule))
    register(bundle, verdict, splits, tmp_path)
    options = ["evidence", "toy", "--annex-iv", str(tmp_path / "annex.md"), "--out", str(tmp_path)]
    done = CliRunner().invoke(app, options)
    assert done.exit_code == 0, done.output
    text = (tmp_path / "annex.md").read_text()
    assert [line[3:] for line in text.splitlines() if line.startswith("## ")] == ANNEX_IV
    for fact in (
        "# Technical documentation of toy version 1",
        verdict.model_hash,
        "- (a) Intended purpose: to predict the column late.",
        "| test | 6,000 | ",
        "    - numbers: `a`, `b`",
        "| auc | pass | 0.8 | 0.7 |",
        "- auc [colour=&lt;b>red\\|&lt;/b>]: 0.75 on 321 rows, pass",
        "- accuracy: 0.76 (threshold 0.7)",
        "the gate's decision stands as it was made",
    ):
        assert fact in text, fact
    assert text.count("_To be written by the provider: ") >= 10


def test_evidence_is_a_page_that_says_what_the_terminal_says(
    bundle: Path, splits: Path, tmp_path: Path, registry: str
) -> None:
    override = Override(approver="Ada Lovelace", reason="a <b>pilot</b>")
    verdict = passed(bundle, rules=(PASSED, FAILED), override=override)
    register(bundle, verdict, splits, tmp_path)
    page = tmp_path / "evidence.html"
    done = CliRunner().invoke(app, ["evidence", "toy", "--page", str(page), "--out", str(tmp_path)])
    assert done.exit_code == 0, done.output
    assert f"written: {page}" in done.output
    text = " ".join(html.unescape(re.sub(r"<[^>]+>", " ", page.read_text())).split())
    report = show_evidence("toy")
    for said in (
        "Every hash holds.",
        f"{report.files} files were fetched",
        "Ada Lovelace: a <b>pilot</b>",
        "let through by 2 rules",
        "accuracy 0.760 at least 0.7",
        "register slipway/register:0.1.0 tag only",
        *report.index.files.values(),
        report.index.model.hash,
    ):
        assert said in text, said
    assert "<b>pilot" not in page.read_text()


@pytest.mark.parametrize("which", ["champion", "7", "challenger"])
def test_evidence_of_nothing_is_a_clear_error(registry: str, which: str) -> None:
    with pytest.raises(SlipwayError, match=f"has no version '{which}' of toy"):
        show_evidence("toy", which)


def test_a_version_that_others_registered_has_no_evidence(registry: str) -> None:
    client = mlflow_client()
    client.create_registered_model("toy")
    client.create_model_version("toy", source="s3://elsewhere/model")
    with pytest.raises(SlipwayError, match="was not registered by Slipway"):
        show_evidence("toy", "1")


# Tasks at the same time.


def test_runs_that_finish_at_once_agree_on_the_alias(
    splits: Path, tmp_path: Path, registry: str
) -> None:
    results: list[Release] = []
    problems: list[BaseException] = []
    ready = threading.Barrier(3)

    def work(number: int) -> None:
        folder = tmp_path / f"bundle{number}"
        # Two of the three tasks register the same bundle.
        world.make_bundle(folder, threshold=0.4 if number < 2 else 0.5)
        verdict = passed(folder)
        ready.wait()
        try:
            results.append(register(folder, verdict, splits, tmp_path / f"out{number}"))
        except BaseException as error:
            problems.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert problems == []
    by_hash = {
        result.model_hash: {r.model_version for r in results if r.model_hash == result.model_hash}
        for result in results
    }
    assert [len(found) for found in by_hash.values()] == [1, 1]
    assert (
        len({version.tags["slipway.model_hash"] for version in versions()}) == len(versions()) == 2
    )
    alias = mlflow_client().get_model_version_by_alias("toy", "challenger")
    latest = max(versions(), key=lambda version: version.tags["slipway.requested_at"])
    assert str(alias.version) == str(latest.version)


def test_what_other_threads_read_of_the_environment_meanwhile_is_no_matter(
    splits: Path, tmp_path: Path, registry: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """MLflow would note the names of variables that any thread reads, in a set that it walks through."""
    monkeypatch.setenv("SOMEBODY_ELSES_API_KEY", "x")
    world.make_bundle(tmp_path / "bundle")
    getter, ended = type(os.environ).get, threading.Event()

    def read() -> None:
        while not ended.wait(0.001):
            os.environ.get("SOMEBODY_ELSES_API_KEY")

    reader = threading.Thread(target=read)
    reader.start()
    try:
        register(tmp_path / "bundle", passed(tmp_path / "bundle"), splits, tmp_path / "out")
    finally:
        ended.set()
        reader.join()
    (version,) = versions()
    model = Path(mlflow.artifacts.download_artifacts(version.tags["slipway.model_uri"]))
    assert (model / "MLmodel").is_file()
    assert "SOMEBODY_ELSES_API_KEY" not in "".join(
        path.read_text(errors="replace") for path in model.rglob("*") if path.is_file()
    )
    assert type(os.environ).get is getter


def test_an_alias_that_another_task_makes_at_the_same_moment_is_moved(
    splits: Path, tmp_path: Path, registry: str
) -> None:
    """MLflow's SQL store looks for the alias and then inserts it: the slower of two is refused."""
    made = []

    def make_it_first(session: Session, *_: object) -> None:
        if made or not any(isinstance(row, SqlRegisteredModelAlias) for row in session.new):
            return
        made.append("challenger")
        with sqlite3.connect(registry.removeprefix("sqlite:///")) as other:
            other.execute(
                "INSERT INTO registered_model_aliases (workspace, name, alias, version)"
                " VALUES ('default', 'toy', 'challenger', 1)"
            )

    world.make_bundle(tmp_path / "bundle")
    event.listen(Session, "before_flush", make_it_first)
    try:
        result = register(
            tmp_path / "bundle", passed(tmp_path / "bundle"), splits, tmp_path / "out"
        )
    finally:
        event.remove(Session, "before_flush", make_it_first)
    assert made == ["challenger"]
    alias = mlflow_client().get_model_version_by_alias("toy", "challenger")
    assert str(alias.version) == result.model_version


def test_the_same_bundle_of_two_pipelines_at_once_keeps_whole_evidence(
    splits: Path, tmp_path: Path, registry: str
) -> None:
    """Both write to the one training run; neither may write over what the other's version names."""
    bundle = tmp_path / "bundle"
    world.make_bundle(bundle)
    run = connect().open_run("toy")
    write_json(bundle / TRAINING, {"mlflow_run_id": run})
    verdict = passed(bundle)
    problems: list[BaseException] = []

    def work(number: int) -> None:
        try:
            register(bundle, verdict, splits, tmp_path / f"out{number}", f"pipeline-{number}")
        except BaseException as error:
            problems.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert problems == []
    assert len(versions()) == 1
    assert show_evidence("toy").problems == ()


class Registry:
    """An alias and the times at which versions were asked for, with a hook before each call."""

    def __init__(self, before: Callable[[str], None] = lambda call: None) -> None:
        self.asked: dict[str, str] = {"1": "", "2": ""}
        self.alias = ""
        self.before = before

    def tag_version(self, model: str, version: str, tags: dict[str, str]) -> None:
        self.before("tag")
        self.asked[version] = tags["slipway.requested_at"]

    def list_versions(self, model: str) -> list[RegisteredVersion]:
        self.before("search")
        return [
            RegisteredVersion(
                name=model,
                version=version,
                run_id="",
                tags={"slipway.requested_at": asked},
                aliases=(),
            )
            for version, asked in self.asked.items()
        ]

    def point_alias(self, model: str, alias: str, version: str) -> None:
        self.before("alias")
        self.alias = version


@pytest.mark.parametrize("place", range(4))
def test_wherever_the_other_task_comes_in_between_the_last_one_has_the_alias(place: int) -> None:
    """Version 2's task runs as a whole before call number `place` of version 1's task."""
    registry = Registry()
    calls: list[str] = []

    def release(version: str) -> Release:
        return Release(
            name="toy",
            model_version=version,
            alias="challenger",
            run_id="",
            bundle_uri="",
            model_hash="",
        )

    def before(call: str) -> None:
        calls.append(call)
        if len(calls) == place + 1:
            registry.before = lambda call: None
            assert stage._take_alias(registry, release("2")).alias == "challenger"
            registry.before = calls.append

    registry.before = before
    first = stage._take_alias(registry, release("1"))
    assert registry.asked["1"] < registry.asked["2"]
    assert (registry.alias, first.alias) == ("2", "")


def test_mlflow_says_what_a_version_is_and_what_it_learnt_from(
    bundle: Path, splits: Path, tmp_path: Path, registry: str
) -> None:
    shutil.copytree(splits, tmp_path / "told")
    described = replace(read_splits(splits), predicts="whether a toy breaks")
    write_splits(tmp_path / "told", described)
    register(bundle, passed(bundle), tmp_path / "told", tmp_path)
    (version,) = versions()
    assert version.description.startswith("Predicts whether a toy breaks. Passed the gate on ")
    assert "accuracy 0.760 (at least 0." in version.description
    client = mlflow_client()
    assert client.get_registered_model("toy").description == "Predicts whether a toy breaks."
    # The numbers stand in the run and in the description, once each, and not in tags as well.
    assert not {"slipway.accuracy", "slipway.auc", "slipway.f1"} & version.tags.keys()
    run = client.get_run(version.run_id)
    assert run.data.metrics["test_auc"] == 0.8
    said = f"{version.description} Registered as {version.name} version {version.version}."
    assert run.data.tags["mlflow.note.content"] == said
    used = {
        one.dataset.name: (one.tags[0].value, json.loads(one.dataset.profile)["num_rows"])
        for one in run.inputs.dataset_inputs
    }
    rows = described.rows
    assert used == {
        f"{described.project}-train": ("training", rows["train"]),
        f"{described.project}-validation": ("validation", rows["validation"]),
        f"{described.project}-test": ("evaluation", rows["test"]),
    }
