"""The whole way on a real cluster, given by a kubeconfig: SLIPWAY_E2E_KUBECONFIG.

The cluster needs Kubeflow Pipelines 2.17, KServe, MLflow, Redis, the images, and a lake that its pods can
read (SLIPWAY_E2E_DATA_ROOT). The workflow `cluster.yaml` makes such a one.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

SLIPWAY = Path(sys.executable).parent / "slipway"
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


@pytest.mark.timeout(3600)
def test_doctor_then_a_run_then_a_schedule() -> None:
    examined = slipway("doctor")
    assert "ok   Kubeflow Pipelines" in examined.stdout, examined.stdout
    options = ["--set", "gpus=0", "--set", "epochs=1"]
    if root := os.environ.get("SLIPWAY_E2E_DATA_ROOT"):
        options += ["--set", f"data_root={root}"]
    run = slipway("submit", "--wait", "--limit", "1h", *options)
    assert run.returncode == 0, run.stdout + run.stderr
    assert "Verdict: PASS" in run.stdout
    assert slipway("schedule").returncode == 0
    second = slipway("schedule", "--dry-run")
    assert second.returncode == 0, second.stdout
