"""The whole way on a real cluster, given by a kubeconfig: SLIPWAY_E2E_KUBECONFIG.

The cluster needs Kubeflow Pipelines 2.17, KServe, MLflow, Redis, the images, and a lake that its pods can
read (SLIPWAY_E2E_DATA_ROOT). SLIPWAY_E2E_COMPILED is a folder with pipelines compiled for its size, in
place of compiled/. The workflow `cluster.yaml` makes such a cluster.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

SLIPWAY = Path(sys.executable).parent / "slipway"
# One epoch is enough to see it work, and not to pass the flights' own gate.
EASY = ("gate_accuracy=0.6", "gate_f1=0.4", "gate_auc=0.65")
KUBECONFIG = os.environ.get("SLIPWAY_E2E_KUBECONFIG", "")

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.skipif(not KUBECONFIG, reason="SLIPWAY_E2E_KUBECONFIG names no cluster"),
]


def slipway(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(SLIPWAY), *arguments],
        capture_output=True,
        text=True,
        env={**os.environ, "KUBECONFIG": KUBECONFIG},
    )


def run(pipeline: str, *settings: str) -> subprocess.CompletedProcess[str]:
    """Submits one of the pipelines and waits for its end."""
    if root := os.environ.get("SLIPWAY_E2E_DATA_ROOT"):
        settings += (f"data_root={root}",)
    folder = os.environ.get("SLIPWAY_E2E_COMPILED", "compiled")
    options = [part for setting in settings for part in ("--set", setting)]
    file = f"{folder}/flights-{pipeline}.yaml"
    done = slipway("submit", file, "--wait", "--limit", "1h", *options)
    assert done.returncode == 0, done.stdout + done.stderr
    return done


@pytest.mark.timeout(3600)
def test_doctor_then_a_model_then_its_batch_pipelines_then_a_schedule() -> None:
    examined = slipway("doctor")
    assert "ok   Kubeflow Pipelines" in examined.stdout, examined.stdout
    assert "Verdict: PASS" in run("training", "training_gpus=0", "training_epochs=1", *EASY).stdout
    run("scoring", "window_start=1d", "window_end=2014-01-01T05:00:00Z")
    run("backfill", "window_start=2013-06-01", "window_end=2013-06-02")
    folder = ("--compiled", os.environ.get("SLIPWAY_E2E_COMPILED", "compiled"))
    assert slipway("schedule", *folder).returncode == 0
    second = slipway("schedule", *folder, "--dry-run")
    assert second.returncode == 0, second.stdout
