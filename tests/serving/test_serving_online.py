"""Entity keys in place of features: the online store's values, through Feast itself."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import httpx
import numpy as np
import pytest
from support.online_stores import KEYS, RedisServer, fill_store
from support.serving_bundles import (
    expected,
    flight_tensors,
    free_port,
    predictor,
    tensor,
    wait_ready,
)


def test_keys_and_features_give_the_same_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FEATURE_STORE_URI", str(tmp_path / "store"))
    monkeypatch.delenv("FEAST_REDIS_URL", raising=False)
    fill_store(tmp_path)
    with predictor(tmp_path / "p", "--online") as running:
        answer = running.infer(KEYS).json()["outputs"][0]["data"]
        truth = expected(2)
        assert answer[:2] == pytest.approx([truth[1], truth[0]], abs=1e-6)
        nothing = [
            tensor(name, kind, [None])
            for name, kind in {
                "miles": "FP64",
                "delay": "FP64",
                "weekend": "BOOL",
                "carrier": "BYTES",
                "origin": "BYTES",
                "departs": "BYTES",
            }.items()
        ]
        assert running.infer(nothing).json()["outputs"][0]["data"][0] == answer[2]
        # What comes with the request stands.
        more = [tensor("tailnum", "BYTES", ["flight-0"]), tensor("miles", "FP64", [101.5])]
        features = [t for t in flight_tensors(1) if t["name"] != "miles"]
        features.append(tensor("miles", "FP64", [101.5]))
        assert running.infer(more).json()["outputs"] == running.infer(features).json()["outputs"]
        # As in training, a null names no aircraft.
        assert running.infer([tensor("tailnum", "BYTES", [None])]).json()["outputs"][0]["data"] == [
            answer[2]
        ]
        for kind, bad, word in (("BYTES", 7, "give keys as texts"), ("INT64", 7, "give BYTES")):
            response = running.infer([tensor("tailnum", kind, [bad])])
            assert response.status_code == 400 and word in response.text, response.text
        # V1 takes keys as well.
        instances = [{"tailnum": "flight-1"}, {"tailnum": "flight-0"}]
        url = f"{running.url}/v1/models/flights:predict"
        predicted = httpx.post(url, json={"instances": instances}).json()["predictions"]
        assert [p["probability"] for p in predicted] == pytest.approx(
            [truth[1], truth[0]], abs=1e-6
        )
        mixed = httpx.post(url, json={"instances": [{"tailnum": "flight-1"}, {"miles": 1.0}]})
        assert mixed.status_code == 400 and "lacks the input" in mixed.text


def test_the_transformer_completes_requests_from_redis(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, redis: RedisServer
) -> None:
    """Started as KServe starts it, before a predictor that knows nothing of Feast."""
    import tritonclient.http as triton

    monkeypatch.setenv("FEATURE_STORE_URI", str(tmp_path / "store"))
    monkeypatch.setenv("FEAST_REDIS_URL", redis.address)
    fill_store(tmp_path)
    assert not list(tmp_path.rglob("online.db"))
    port, output = free_port(), tmp_path / "transformer.txt"
    with predictor(tmp_path / "p") as running, output.open("wb") as sink:
        command = [
            sys.executable,
            "-m",
            "slipway.serving.online.transformer",
            "--model_name",
            "flights",
        ]
        command += ["--http_port", str(port), "--predictor_host", running.url.split("//")[1]]
        process = subprocess.Popen(
            [*command, "--workers", "1"],
            stdout=sink,
            stderr=sink,
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        )
        try:
            url = f"http://127.0.0.1:{port}"
            wait_ready(url, process, output)
            infer = f"{url}/v2/models/flights/infer"
            answer = httpx.post(infer, json={"inputs": KEYS}, timeout=60).json()
            truth = expected(2)
            assert answer["outputs"][0]["data"][:2] == pytest.approx([truth[1], truth[0]], abs=1e-6)
            # Whole requests pass through as they are, binary ones and refused ones too.
            client = triton.InferenceServerClient(f"127.0.0.1:{port}")
            inputs = []
            for item in flight_tensors(2):
                kind = {"FP64": np.float64, "BOOL": bool, "BYTES": object}[item["datatype"]]
                made = triton.InferInput(item["name"], [2], item["datatype"])
                made.set_data_from_numpy(np.array(item["data"], kind))
                inputs.append(made)
            result = client.infer("flights", inputs).as_numpy("probability")
            assert result == pytest.approx(np.array(truth), abs=1e-6)
            # Keys as binary tensors, beside a feature that stands.
            keys = triton.InferInput("tailnum", [2], "BYTES")
            keys.set_data_from_numpy(np.array(["flight-0", "flight-1"], object))
            result = client.infer("flights", [keys, inputs[0]]).as_numpy("probability")
            assert result == pytest.approx(np.array(truth), abs=1e-6)
            lacking = httpx.post(infer, json={"inputs": flight_tensors(1)[1:]})
            assert lacking.status_code == 400 and "lacks the input 'miles'" in lacking.text
            for body in (b"{", b'{"inputs": NaN}', b"[1]", b"\xff", b""):
                assert httpx.post(infer, content=body).status_code == 400
            wrong = httpx.post(infer, json={"inputs": [tensor("tailnum", "BYTES", [7])]})
            assert wrong.status_code == 400 and "'tailnum' has the value 7" in wrong.text
            running.process.kill()
            gone = httpx.post(infer, json={"inputs": KEYS}, timeout=60)
            assert gone.status_code == 503 and gone.headers["retry-after"] == "1"
            assert httpx.get(f"{url}/v2/health/ready").status_code == 503
            assert 'requests_total{code="400"}' in httpx.get(f"{url}/metrics").text
        finally:
            process.send_signal(signal.SIGTERM)
            assert process.wait(30) in (0, -signal.SIGTERM), output.read_text()


def test_the_transformer_needs_nothing_that_its_image_lacks() -> None:
    """It runs in the features image, which has Feast and neither onnxruntime nor orjson."""
    code = (
        "import sys\n"
        "for name in ('orjson', 'onnxruntime', 'grpc', 'uvloop', 'torch', 'kfp', 'mlflow'):\n"
        "    sys.modules[name] = None\n"
        "import slipway.serving.online.transformer\n"
        "print(*sorted(name for name in sys.modules if name.startswith('slipway.serving')))\n"
    )
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    modules = [name.removeprefix("slipway.").split(".") for name in done.stdout.split()]
    loaded = {Path(*parts) for parts in modules}
    lines = (root / "images/features/Dockerfile").read_text().splitlines()
    copied = [
        Path(name)
        for line in lines
        if line.startswith("COPY serving/")
        for name in line.split()[1:-1]
    ]
    files = [file for p in copied for file in ((root / p).glob("*.py") if not p.suffix else [p])]
    relative = [file.relative_to(root) if file.is_absolute() else file for file in files]
    assert loaded == {p.parent if p.name == "__init__.py" else p.with_suffix("") for p in relative}
