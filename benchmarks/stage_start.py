"""From its start to a stage's first line: against bare Python, and against installing at run time.

As a process of this environment always; in containers where an engine answers and the images are there
(`make images`): then it is wall-clock time from `docker run` on, for a container with a read-only root
and no capabilities. A stage's first line is the
event that its entry function prints when it starts: the executor of kfp has then read its input, and the
stage's module is imported.

With images come their sizes, with the largest packages in each, and the time of `make images` where
nothing changed. The time of a cold build is that of `make images NO_CACHE=1`, some minutes.

The peer "installs at run time" is kfp's default style: the same stage on the plain Python image, where
the command first pip-installs what the stage asks for. It is measured where the packages are of modest
size; torch alone would make the comparison absurd.
"""

import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import yaml

from benchmarks.harness import Row, interleave, report
from slipway.components.support.images import STAGES, image
from slipway.images.build import BASE_IMAGE
from slipway.images.plan import ROOT

INSTALLED_AT_RUN_TIME = ("validate", "ingest")
HARDENED = ("--read-only", "--tmpfs", "/tmp", "--cap-drop", "ALL", "--network", "none")
FOLDER = "/tmp/bench"
VALUES: dict[str, Any] = {
    "STRING": "x", "NUMBER_INTEGER": 1, "NUMBER_DOUBLE": 0.5, "BOOLEAN": False, "STRUCT": {}, "LIST": [],
}  # fmt: skip
# What a stage reads before its first line.
GIVEN = {"window_start": "2013-01-01", "window_end": "2013-01-02", "schema": "{}"}


def main() -> None:
    """Prints the table and writes build/bench/stage_start.json."""
    rows = []
    for stage in STAGES:
        started, bare = interleave(partial(first_line_here, stage), bare_python_here, times=5)
        over = [a - b for a, b in zip(started, bare, strict=True)]
        extra = {"bare_s": statistics.median(bare)}
        what = f"{stage}: first line, a process"
        rows.append(Row(what, "python -c pass", "s more", over, reach="≤ 2.5", extra=extra))
    missing = [stage for stage in STAGES if not _has_image(stage)]
    if missing:
        print(f"In containers nothing is measured: there is no image of {', '.join(missing)}.")
    else:
        rows += in_containers()
    report("stage_start", rows)


def in_containers() -> list[Row]:
    """The rows that need the stages' images."""
    rows = []
    for stage in STAGES:
        started, bare = interleave(partial(first_line, stage), partial(bare_python, stage), times=5)
        over = [a - b for a, b in zip(started, bare, strict=True)]
        extra = {
            "image_mb": size_mb(image(stage)),
            "largest": largest_packages(image(stage)),
            "bare_s": statistics.median(bare),
        }
        rows.append(
            Row(
                f"{stage}: first line, over bare Python",
                "python -c pass",
                "s more",
                over,
                reach="≤ 2.5",
                extra=extra,
            )
        )
    for stage in INSTALLED_AT_RUN_TIME:
        installed, ours = interleave(
            partial(first_line_after_install, stage), partial(first_line, stage), times=2
        )
        faster = [a / b for a, b in zip(installed, ours, strict=True)]
        medians = {"ours_s": statistics.median(ours), "theirs_s": statistics.median(installed)}
        rows.append(
            Row(
                f"{stage}: first line",
                "installs at run time",
                "times faster",
                faster,
                reach="≥ 5",
                extra=medians,
            )
        )
    rows.append(
        Row("make images, nothing changed", "", "s", [seconds_to_build() for _ in range(2)])
    )
    for name in (*STAGES, "predictor"):
        print(f"{name}: {size_mb(image(name)):,} MB. {largest_packages(image(name))}")
    return rows


def seconds_to_build() -> float:
    """Seconds of a build of all images."""
    started = time.perf_counter()
    subprocess.run(
        [sys.executable, "-m", "images.build"], check=True, capture_output=True, cwd=ROOT
    )
    return time.perf_counter() - started


def largest_packages(reference: str, count: int = 6) -> str:
    """The largest folders of packages in an image, and the operating system, in MB (2**20 bytes)."""
    # In Python: the predictor's image has no shell.
    code = f"""
import os
def size(folder):
    found = [os.lstat(os.path.join(at, name)) for at, _, files in os.walk(folder) for name in files]
    return round(sum({{f.st_ino: f.st_size for f in found}}.values()) / 2**20)
site = "/opt/slipway/lib/python3.11/site-packages/"
sizes = sorted(((size(site + name), name) for name in os.listdir(site)), reverse=True)
largest = [f"{{name}} {{mb}}" for mb, name in sizes[:{count}]]
print(f"system and Python {{size('/usr')}}", *largest, sep=", ")
"""
    command = ["docker", "run", "--rm", *HARDENED, reference, "python3", "-c", code]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def first_line_here(stage: str) -> float:
    """Seconds from a task's command to the stage's first event, as a process of this environment."""
    return _until_start(stage_command(stage))


def bare_python_here() -> float:
    """Seconds of a Python process that does nothing."""
    started = time.perf_counter()
    subprocess.run([sys.executable, "-c", "pass"], check=True)
    return time.perf_counter() - started


def _has_image(stage: str) -> bool:
    """Whether an engine answers and has the stage's image."""
    if shutil.which("docker") is None:
        return False
    command = ["docker", "image", "inspect", image(stage)]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def bare_python(stage: str) -> float:
    """Seconds of a whole `docker run` of Python that does nothing, in the stage's image."""
    started = time.perf_counter()
    command = ["docker", "run", "--rm", *HARDENED, image(stage), "python3", "-c", "pass"]
    subprocess.run(command, check=True, capture_output=True)
    return time.perf_counter() - started


def first_line(stage: str) -> float:
    """Seconds from `docker run` to the stage's first event, in its image."""
    return _until_start(["docker", "run", "--rm", *HARDENED, image(stage), *stage_command(stage)])


def first_line_after_install(stage: str) -> float:
    """The same on the plain base, where the command installs the stage's packages first."""
    packages = sorted({*requirements("base"), *requirements(stage)})
    install = " ".join(f"'{package}'" for package in packages)
    shell, flags, script, *rest = stage_command(stage)
    script = f"python3 -m pip install --quiet --no-cache-dir --target /tmp/site {install}\n{script}"
    base = subprocess.run(
        [str(ROOT / "images" / "engine.sh"), "base", BASE_IMAGE],
        check=True,
        capture_output=True,
        text=True,
    ).stdout.strip()
    mounts = [
        "-v",
        f"{ROOT / 'components'}:/app/slipway/components:ro",
        "-e",
        "PYTHONPATH=/app:/tmp/site",
    ]
    command = ["docker", "run", "--rm", "--network", "host", *mounts, base]
    return _until_start([*command, shell, flags, script, *rest])


def requirements(name: str) -> list[str]:
    """What an image asks for by name, at its locked versions."""
    folder = ROOT / "images" / name
    asked = re.findall(
        r"^([a-z][\w.-]*(?:\[\w+\])?)", (folder / "requirements.in").read_text(), re.MULTILINE
    )
    versions = dict(
        re.findall(
            r"^([\w.-]+)==([^ \\\n]+)", (folder / "requirements.lock").read_text(), re.MULTILINE
        )
    )
    return [f"{package}=={versions[package.split('[')[0]]}" for package in asked]


def stage_command(stage: str) -> list[str]:
    """The command that a cluster runs for the stage, with inputs that are not there."""
    document = yaml.safe_load((ROOT / "compiled" / "components" / f"{stage}.yaml").read_text())
    component = document["components"][f"comp-{stage}"]
    container = document["deploymentSpec"]["executors"][f"exec-{stage}"]["container"]
    inputs, outputs = component.get("inputDefinitions", {}), component.get("outputDefinitions", {})

    def artifacts(definitions: dict[str, Any]) -> dict[str, Any]:
        return {
            name: {
                "artifacts": [
                    {
                        "name": name,
                        "type": artifact["artifactType"],
                        "uri": f"{FOLDER}/{name}",
                        "metadata": {},
                    }
                ]
            }
            for name, artifact in definitions.get("artifacts", {}).items()
        }

    parameters = inputs.get("parameters", {})
    executor_input = {
        "inputs": {
            "parameterValues": {
                name: GIVEN.get(name, p.get("defaultValue", VALUES[p["parameterType"]]))
                for name, p in parameters.items()
            },
            "artifacts": artifacts(inputs),
        },
        "outputs": {
            "parameters": {
                name: {"outputFile": f"{FOLDER}/{name}"} for name in outputs.get("parameters", {})
            },
            "artifacts": artifacts(outputs),
            "outputFile": "/tmp/bench/output.json",
        },
    }
    filled = [arg.replace("{{$}}", json.dumps(executor_input)) for arg in container["args"]]
    return [*container["command"], *filled]


def size_mb(reference: str) -> float:
    """An image's size in MB (10**6 bytes), its base's layers included."""
    command = ["docker", "image", "inspect", "--format", "{{.Size}}", reference]
    return round(
        int(subprocess.run(command, check=True, capture_output=True, text=True).stdout) / 1e6
    )


def _until_start(command: list[str]) -> float:
    """Seconds until the command prints the event that a stage has started.

    Raises:
        RuntimeError: it ended before; the message has its output.
    """
    said = []
    # A task's command says python3: here that is the one with the stages' packages.
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path}
    started = time.perf_counter()
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment
    ) as process:
        for line in process.stdout or ():
            said.append(line)
            if line.startswith('[slipway] {"event": "start"'):
                seconds = time.perf_counter() - started
                for _ in process.stdout or ():
                    pass
                return seconds
    raise RuntimeError("".join(said)[-2000:])


if __name__ == "__main__":
    main()
