"""Libraries that are imported without what they load and nobody here uses."""

import subprocess
import sys
from pathlib import Path

import pytest

from slipway.components.support.libraries.imports import without


def test_a_module_that_is_left_out_cannot_be_imported_in_the_block_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "left_out_here.py").write_text("VALUE = 3\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with without("left_out_here"), pytest.raises(ImportError):
        import left_out_here
    assert "left_out_here" not in sys.modules

    import left_out_here

    assert left_out_here.VALUE == 3
    with without("left_out_here"):
        import left_out_here as again
    assert again is left_out_here
    assert sys.modules.pop("left_out_here") is left_out_here


def test_feast_comes_without_torch_and_leaves_the_checks_of_others_as_they_were() -> None:
    code = """
import sys
from slipway.components.support.libraries.feast_import import load_feast
load_feast()
import typeguard
print("feast" in sys.modules, "torch" in sys.modules, typeguard.typechecked.__name__)
import torch
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout == "True False typechecked\n", done.stderr
