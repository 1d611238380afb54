#!/bin/bash -eu
# Installs Slipway and makes one fuzzer of each target; compile_python_fuzzer is the builder's own.
python3 -m pip install --require-hashes --no-deps -r requirements/run.lock
python3 -m pip install --no-deps .
for name in $(python3 -m fuzz.targets names); do
  cat > "fuzz_$name.py" <<END
import atheris

with atheris.instrument_imports():
    from fuzz.targets import run_atheris

run_atheris("$name")
END
  compile_python_fuzzer "fuzz_$name.py" --paths . --paths tests --add-data examples:examples
  python3 -m fuzz.targets seeds "$name" "corpus/$name"
  (cd "corpus/$name" && zip -q "$OUT/fuzz_${name}_seed_corpus.zip" ./*)
done
