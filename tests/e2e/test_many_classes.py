"""Three hundred classes of twelve rows each: trained, judged, served, logged and monitored."""

import json
import re
import urllib.request
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from support.small_job import free_port
from support.small_project import Project

CLASSES, EACH = 300, 12


def products() -> pl.DataFrame:
    """Rows around a centre for each class, which five numbers tell apart."""
    random = np.random.default_rng(1)
    centres = 2 * random.normal(size=(CLASSES, 5))
    own = random.permutation(np.repeat(np.arange(CLASSES), EACH))
    numbers = centres[own] + 0.3 * random.normal(size=(len(own), 5))
    columns = {f"x{place}": numbers[:, place].round(3) for place in range(5)}
    return pl.DataFrame({**columns, "product": [f"P{place:03}" for place in own]})


@pytest.mark.slow
def test_hundreds_of_classes_go_all_the_way(tmp_path: Path) -> None:
    project = Project(folder=tmp_path, port=free_port())
    table = products()
    table.write_csv(tmp_path / "products.csv")
    project.slipway("init", "products.csv", "--label", "product", "--kind", "multiclass")
    try:
        screen = project.run(
            "gate.leak.acknowledged=five numbers make the class",
            "gate.accuracy=0.3",
            "gate.f1=0.2",
            "gate.auc=0.7",
            "training.min_steps=400",
        )
        summary = project.summary()
        assert summary["verdict"] == "pass", screen
        monitoring = summary["monitoring"]["summary"]
        assert monitoring["labelled"] == monitoring["total_predictions"] > 300
        assert monitoring["current_accuracy"] == pytest.approx(summary["metrics"]["accuracy"])
        first = table.row(0, named=True)
        row = {name: first[name] for name in table.columns[:5]}
        url = f"http://127.0.0.1:{project.port}/v1/models/products:predict"
        body = json.dumps({"instances": [row]}).encode()
        request = urllib.request.Request(url, body, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=10) as response:
            answer = json.loads(response.read())["predictions"][0]
        assert len(answer["probabilities"]) == CLASSES
        assert sum(answer["probabilities"]) == pytest.approx(1, abs=1e-4)
        place = int(np.argmax(answer["probabilities"]))
        assert answer["label"] == f"P{place:03}"
        (pages,) = (tmp_path / "build/run/reports").iterdir()
        for name, most in (("card", 130), ("training", 0), ("monitoring", 60)):
            page = (pages / f"{name}.html").read_text()
            assert len(re.findall(r"<tr", page)) < most + 120, name
            assert len(set(re.findall(r"P\d{3}", page))) <= most + 20, name
    finally:
        project.slipway("stop")
