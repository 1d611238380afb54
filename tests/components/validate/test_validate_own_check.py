"""A check of an installed package, as docs/your-own-code.md shows it, and what it may not be."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from support.own_code import PAGE, install

from slipway.components.contracts.dataset import read_table
from slipway.components.support.errors import SlipwayError

GOOD, BAD = "DE89 3704 0044 0532 0130 00", "DE89370400440532013001"
TABLE = pa.table({"iban": [GOOD, BAD, None, "GB82WEST12345698765432"], "amount": [1, 2, 3, 4]})


def schema(**words: Any) -> dict[str, Any]:
    """The schema of `TABLE` with the page's check."""
    checks = re.search(r'```json\n"x-checks": (.*?)\n```', PAGE, re.DOTALL)
    assert checks
    [(name, check)] = json.loads(checks[1]).items()
    return {"properties": {"iban": {}, "amount": {}}, "x-checks": {name: check | words}}


def test_the_check_sets_rows_apart_with_its_name(
    validate: Callable[..., Any], places: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(tmp_path / "site", monkeypatch)
    validate(TABLE, schema(**{"x-maxFailedFraction": 0.25}))
    assert read_table(places.good, "t")["amount"].to_pylist() == [1, 3, 4]
    assert read_table(places.quarantine, "t").to_pylist() == [
        {"iban": BAD, "amount": 2, "_reasons": "check the IBAN's digits agree", "_row": 1}
    ]
    with pytest.raises(SlipwayError, match="check the IBAN's digits agree"):
        validate(TABLE, schema())


@pytest.mark.parametrize(
    ("code", "columns", "said"),
    [
        ("return iban.is_unique()", ["iban"], "looks at more than one row"),
        ("return iban.str.len_chars()", ["iban"], "is no condition: it gives UInt32"),
        ("return True", ["iban"], "gives bool, and not a polars expression"),
        ("return iban > 5", ["iban", "amount"], "failed: TypeError"),
        ("raise KeyError('x')", ["iban"], "failed: KeyError"),
        ("return iban.is_null()", ["ibn"], "the table has no column ibn"),
    ],
)
def test_a_check_that_is_none_is_refused(
    code: str,
    columns: list[str],
    said: str,
    validate: Callable[..., Any],
    places: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    install(tmp_path / "site", monkeypatch, iban=f"def is_iban(iban):\n    {code}\n")
    with pytest.raises(SlipwayError, match=said) as raised:
        validate(TABLE, schema(columns=columns))
    assert "x-checks" in str(raised.value)
    assert not places.good.exists()


def test_a_check_that_no_package_offers_is_refused(validate: Callable[..., Any]) -> None:
    with pytest.raises(SlipwayError, match="No installed package offers 'iban'"):
        validate(TABLE, schema())
