"""Compiling a whole project, against the least that kfp itself needs for a one-task pipeline."""

from benchmarks.harness import Row, interleave, report, run_python

OURS = """
from pathlib import Path
from slipway.components.config.project import load_project
from slipway.pipelines.compiler import compile_project
compile_project(load_project(Path("examples/flights")), Path("build/bench/compiled"))
"""

THEIRS = """
from kfp import compiler, dsl, kubernetes
@dsl.component(base_image="python:3.11", install_kfp_package=False)
def hello(name: str) -> str:
    return name
@dsl.pipeline(name="hello")
def pipeline(name: str = "x"):
    kubernetes.set_timeout(hello(name=name), 60)
compiler.Compiler().compile(pipeline, "build/bench/hello.yaml")
"""

AFTER_IMPORTS = (
    """
import time
import slipway.pipelines.compiler
from slipway.pipelines.training import training_pipeline
started = time.perf_counter()
"""
    + OURS
    + """
Path("build/bench/compile_seconds").write_text(str(time.perf_counter() - started))
"""
)


def main() -> None:
    """Prints the table and writes build/bench/compile.json."""
    from pathlib import Path

    Path("build/bench").mkdir(parents=True, exist_ok=True)

    def ours() -> float:
        return run_python(OURS)["cpu_s"]

    def theirs() -> float:
        import tempfile

        with tempfile.NamedTemporaryFile("w", suffix=".py") as file:
            file.write(THEIRS)  # the compiler reads a component's source from its file
            file.flush()
            return run_python("import runpy, sys; runpy.run_path(sys.argv[1])", file.name)["cpu_s"]

    def after_imports() -> float:
        run_python(AFTER_IMPORTS)
        return float(Path("build/bench/compile_seconds").read_text())

    whole, least = interleave(ours, theirs, times=5)
    (inner,) = interleave(after_imports, times=5)
    report(
        "compile",
        [
            Row(
                "2 pipelines and 8 components, fresh process",
                "kfp, a one-task pipeline",
                "CPU s",
                whole,
                least,
                reach="≤ 3",
            ),
            Row("the same, after imports", "–", "s", inner, reach="≤ 3"),
        ],
    )


if __name__ == "__main__":
    main()
