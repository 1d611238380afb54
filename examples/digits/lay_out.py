"""Makes the table of the digits example: 1,797 handwritten digits, each as 8 x 8 pixels of ink.

Source: "Optical recognition of handwritten digits" (E. Alpaydin and C. Kaynak, UCI Machine Learning
Repository, 1998; CC BY 4.0), its test part, as scikit-learn carries it.

    python examples/digits/lay_out.py build/digits

writes digits.parquet: pixel_0_0 … pixel_7_7 (row and column; 0 to 16) and the digit.
"""

import sys
from pathlib import Path

import polars as pl


def lay_out(folder: Path) -> None:
    """Writes the table into a folder."""
    from sklearn.datasets import load_digits

    source = load_digits()
    table = pl.DataFrame(source.data.astype("int64"), schema=list(source.feature_names))
    folder.mkdir(parents=True, exist_ok=True)
    table.with_columns(digit=pl.Series(source.target)).write_parquet(folder / "digits.parquet")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python examples/digits/lay_out.py FOLDER")
    lay_out(Path(sys.argv[1]))
