"""The model card in a real browser: it stands alone and everything in it can be seen."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from slipway.components.evaluate.evaluate import EvaluationTask, evaluate_model

BROWSER = (
    shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
)


@pytest.mark.skipif(BROWSER is None, reason="needs a browser: Debian's package chromium")
def test_card_in_a_browser(bundle: Path, splits: Path, tmp_path: Path, registry: str) -> None:
    evaluate_model(
        EvaluationTask(
            bundle_path=bundle,
            splits_path=splits,
            project="toy <&> co",
            config={
                "accuracy": 0.99,
                "resamples": 200,
                "rehearsal": {"enabled": False},
                "slices": {"columns": ["colour"], "least": {"auc": {"min": 0.5}}},
            },
            verdict_path=tmp_path / "verdict.json",
            card_path=tmp_path / "card.html",
        )
    )
    command = [
        str(BROWSER),
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        # Whatever the card would fetch fails loudly.
        "--host-resolver-rules=MAP * ~NOTFOUND",
        "--enable-logging=stderr",
        f"--user-data-dir={tmp_path / 'profile'}",
        "--window-size=1150,2600",
        "--virtual-time-budget=2000",
        f"--screenshot={tmp_path / 'card.png'}",
        "--dump-dom",
        (tmp_path / "card.html").as_uri(),
    ]
    shown = subprocess.run(command, capture_output=True, text=True, timeout=180, check=True)
    assert "CONSOLE" not in shown.stderr and "ERR_NAME_NOT_RESOLVED" not in shown.stderr
    page = shown.stdout
    assert "<title>toy &lt;&amp;&gt; co: model card</title>" in page
    assert "Refused by the gate." in page and "Accuracy is below 0.99" in page
    assert page.count("<svg") == 4
    assert {"ROC", "Calibration", "Precision and recall"} <= set(
        re.findall(r"<figcaption>(.*?)</figcaption>", page)
    )
    assert '<th scope="row">red</th>' in page
    assert (tmp_path / "card.png").stat().st_size > 50_000
