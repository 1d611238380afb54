"""The recommender example, small: trained, its order gated, clicks pushed, candidates ranked."""

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from support.jobs import Job, free_port

ITEMS = [f"i{number}" for number in range(600)]


@pytest.fixture(scope="module")
def job(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Job]:
    folder = tmp_path_factory.mktemp("shop")
    example = repository / "examples" / "recommendation-engine"
    shutil.copytree(example, folder / "project")
    script, shop = folder / "project" / "lay_out.py", folder / "shop"
    subprocess.run([sys.executable, script, shop, "40"], check=True)
    settings = (
        f"data.root={shop}",
        f"deployment.port={free_port()}",
        "training.epochs=2",
        "training.members=1",
        "training.network.architecture=mlp",
        # So few people say less of what people like.
        "gate.accuracy=0.6",
        "gate.f1=0.1",
        "gate.auc=0.55",
        "gate.ranking.ndcg=0.3",
        "gate.ranking.recall=0.5",
        "gate.ranking.min_queries=50",
        "gate.baseline.linear=false",
    )
    made = Job(out=folder / "run", root=folder / "project", settings=settings)
    yield made
    made.stop()


def rank(job: Job, user: int) -> dict[str, Any]:
    """The best ten of all items for a user, by the items' names."""
    inputs = [
        {"name": "user_id", "datatype": "INT64", "shape": [1], "data": [user]},
        {"name": "device", "datatype": "BYTES", "shape": [1], "data": ["phone"]},
        {"name": "item_id", "datatype": "BYTES", "shape": [len(ITEMS)], "data": ITEMS},
    ]
    url = f"{job.summary()['endpoint']}/v2/models/recommendation-engine/infer"
    body = {"inputs": inputs, "parameters": {"rank": 10}}
    answer = httpx.post(url, json=body, timeout=60)
    assert answer.status_code == 200, answer.text
    found = {output["name"]: output["data"] for output in answer.json()["outputs"]}
    assert found["probability"] == sorted(found["probability"], reverse=True)
    places = found["candidate"]
    return dict(zip([ITEMS[place] for place in places], found["probability"], strict=True))


def test_candidates_are_ranked_by_what_was_clicked_a_moment_ago(job: Job) -> None:
    job.run("--traffic", "1d")
    summary = job.summary()
    assert (summary["verdict"], summary["error"]) == ("pass", None)
    rules = {rule["name"] for rule in summary["rules"]} if "rules" in summary else set()
    assert not rules or {"ranking ndcg", "ranking recall"} <= rules
    before = rank(job, 3)
    assert len(before) == 10
    clicks = [
        {
            "click_id": f"new{number}",
            "user_id": 3,
            "item_id": "i5",
            "category": "c1",
            "price": 20.0,
            "clicked_at": f"2026-03-29T08:{number:02d}:00+00:00",
        }
        for number in range(6)
    ]
    file = job.root / "new.jsonl"
    file.write_text("".join(f"{json.dumps(click)}\n" for click in clicks))
    done = job.slipway("push", str(file))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "user_clicks: 1 entities" in done.stdout
    after = rank(job, 3)
    assert after != before
