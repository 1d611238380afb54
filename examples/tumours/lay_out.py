"""Makes the table of the tumours example: 569 tissue samples, measured on a picture of their cells.

Source: "Breast cancer Wisconsin (diagnostic)" (W. Wolberg, O. Mangasarian, N. Street and W. Street, UCI
Machine Learning Repository, 1995; CC BY 4.0), as scikit-learn carries it.

    python examples/tumours/lay_out.py build/tumours

writes samples.parquet: a sample's number, 30 measurements and the diagnosis.
"""

import sys
from pathlib import Path

import polars as pl


def lay_out(folder: Path) -> None:
    """Writes the table into a folder."""
    from sklearn.datasets import load_breast_cancer

    source = load_breast_cancer()
    names = [str(name).replace(" ", "_") for name in source.feature_names]
    table = pl.DataFrame(source.data, schema=names).with_columns(
        diagnosis=pl.Series(source.target_names[source.target].tolist())
    )
    folder.mkdir(parents=True, exist_ok=True)
    table.with_row_index("sample", offset=1).cast({"sample": pl.Int64}).write_parquet(
        folder / "samples.parquet"
    )


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python examples/tumours/lay_out.py FOLDER")
    lay_out(Path(sys.argv[1]))
