"""From a small table to a verdict and an endpoint: `slipway run` against what a user would write instead.

3,600 orders of a shop. The peers train a model on the same rows: scikit-learn's gradient boosting in a
script that encodes, fits, measures and logs to MLflow on sqlite; and AutoGluon's three lines, in an
environment of its own (where that cannot be made, its row is left out). Neither checks data, computes
features point in time, gates, registers evidence or serves: the ratio says what all of that costs. CPU
seconds are those of all processes that have ended with the run; the endpoint goes on.

A row a stage follows, from the run's own events: a stage's process from its start to its end, imports
included. The row "what runs the stages" is the rest: the command, kfp's driver and the processes' ends.
"""

import json
import random
import socket
import subprocess
import sys
import tempfile
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

from benchmarks.harness import Row, cpu_seconds, interleave, report
from benchmarks.quality.environment import peers_python
from slipway.components.support.stage import EVENT_PREFIX

ROWS, DAYS = 3_600, 60
START = datetime(2024, 1, 1, tzinfo=UTC)
SLIPWAY = Path(sys.executable).parent / "slipway"
PROJECT = """
project_name: shop
data:
  root: lake
  window: {{start: 2024-01-01, end: 2024-03-01}}
  tables: {{orders: {{path: orders, time: placed_at}}}}
schema: schema.json
features:
  entities: {{order: order_id}}
  examples: {{table: orders, key: order_id, time: placed_at, lead: 1h}}
  label: {{column: returned, known: known_at}}
  split: {{validation: 10d, test: 20d, gap: 1d}}
  views:
    - name: basket
      entity: order
      table: orders
      time: placed_at
      available: 2h
      fields: {{amount: amount, items: items, channel: channel}}
training:
  {{epochs: 2, min_steps: 60, members: 1, allow_cpu: true, network: {{architecture: mlp, width: 32}}}}
gate:
  accuracy: 0.3
  f1: 0.1
  auc: 0.5
  calibration_error: 1.0
  min_rows: 100
  min_class_rows: 10
  baseline: {{linear: false}}  # the network is as small as the table
  rehearsal: {{rows: 20, p99_ms: 5000}}
deployment: {{port: {port}}}
"""
SCIKIT_LEARN = """
import sys
import mlflow, pandas
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.metrics import accuracy_score, f1_score, roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder

table = pandas.read_parquet(sys.argv[1])
train, test = table[:-1200], table[-1200:]
names = ["amount", "items", "channel"]
encode = ColumnTransformer(
    [("channel", OneHotEncoder(handle_unknown="ignore"), ["channel"])], remainder="passthrough"
)
model = make_pipeline(encode, HistGradientBoostingClassifier())
mlflow.set_tracking_uri("sqlite:///" + sys.argv[2] + "/mlflow.db")
mlflow.set_experiment("shop")
with mlflow.start_run():
    model.fit(train[names], train["returned"])
    chance = model.predict_proba(test[names])[:, 1]
    mlflow.log_metrics({
        "auc": roc_auc_score(test["returned"], chance),
        "accuracy": accuracy_score(test["returned"], chance > 0.5),
        "f1": f1_score(test["returned"], chance > 0.5),
    })
    tree = "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor"
    mlflow.sklearn.log_model(
        model, name="model", input_example=test[names][:2], skops_trusted_types=[tree]
    )
"""
AUTOGLUON = """
import sys
from autogluon.tabular import TabularDataset, TabularPredictor

table = TabularDataset(sys.argv[1])[["amount", "items", "channel", "returned"]]
predictor = TabularPredictor(label="returned", path=sys.argv[2] + "/ag").fit(table[:-1200], time_limit=60)
print(predictor.evaluate(table[-1200:]))
"""


def write_orders(path: Path) -> None:
    """Orders; whether one is returned depends on amount, items and channel, and is known 6 h later."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    chance = random.Random(1)
    rows = []
    for number in range(ROWS):
        at = START + timedelta(days=DAYS) * number / ROWS
        amount, items = round(chance.lognormvariate(3, 1), 2), chance.randrange(1, 9)
        channel = chance.choice(["web", "app", "shop"])
        odds = -1.2 + 0.9 * (channel == "web") - 0.5 * (channel == "shop")
        odds += 0.02 * amount + 0.15 * items
        rows.append(
            {
                "order_id": f"O{number:05d}",
                "placed_at": at,
                "known_at": at + timedelta(hours=6),
                "amount": amount,
                "items": items,
                "channel": channel,
                "returned": chance.random() < 1 / (1 + 2.718281828**-odds),
            }
        )
    path.parent.mkdir(parents=True)
    pq.write_table(pa.Table.from_pylist(rows), path)


def write_project(folder: Path) -> None:
    """The project's files below a folder."""
    write_orders(folder / "lake/orders/orders.parquet")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    (folder / "project.yaml").write_text(PROJECT.format(port=port))
    (folder / "schema.json").write_text(json.dumps({"tables": {"orders": {"properties": {}}}}))


def stage_costs(out: Path) -> dict[str, float]:
    """CPU seconds of each stage's process, from the run's log."""
    found = {}
    for log in out.glob("logs/*.log"):
        for line in log.read_text(errors="replace").splitlines():
            if line.strip().startswith(EVENT_PREFIX):
                event = json.loads(line.strip().removeprefix(EVENT_PREFIX))
                if event["event"] == "end":
                    found[event["stage"]] = event["cpu_seconds"]
    return found


def main() -> None:
    """Measures and prints."""
    stages: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        write_project(folder)
        table = str(folder / "lake/orders/orders.parquet")

        def call(*command: str) -> None:
            done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
            if done.returncode:
                raise RuntimeError((done.stdout + done.stderr)[-4000:])

        def ours() -> float:
            out = tempfile.mkdtemp(dir=folder)
            run = (str(SLIPWAY), "run", "--project", ".", "--out", out, "--traffic", "0d")
            taken = cpu_seconds(lambda: call(*run, "--fail-on-refusal"))
            call(str(SLIPWAY), "stop", "--out", out)
            costs = stage_costs(Path(out))
            costs["what runs the stages"] = taken - sum(costs.values())
            for name, cost in costs.items():
                stages.setdefault(name, []).append(cost)
            return taken

        def script(python: str, code: str) -> float:
            place = tempfile.mkdtemp(dir=folder)
            return cpu_seconds(lambda: call(python, "-c", code, table, place))

        peers = {"scikit-learn and MLflow": partial(script, sys.executable, SCIKIT_LEARN)}
        try:
            peers["AutoGluon, 3 lines"] = partial(script, str(peers_python()), AUTOGLUON)
        except SystemExit as lacking:
            print(f"No row of AutoGluon: {lacking}")
        taken, *theirs = interleave(ours, *peers.values(), times=3)
    rows = [
        Row("3,600 rows to a verdict and an endpoint", name, "CPU s", taken, samples)
        for name, samples in zip(peers, theirs, strict=True)
    ]
    rows += [Row(f"of it: {name}", "-", "CPU s", costs) for name, costs in stages.items()]
    report("first_verdict", rows)


if __name__ == "__main__":
    main()
