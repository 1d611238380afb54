#!/bin/bash -eu
# Installs Slipway and makes one fuzzer of each fuzz_*.py; compile_python_fuzzer is the builder's own.
python3 -m pip install --require-hashes --no-deps -r requirements/run.lock
python3 -m pip install --no-deps .
for fuzzer in fuzz/fuzz_*.py; do
  compile_python_fuzzer "$fuzzer" --add-data fuzz/targets.py:. --add-data examples:examples
done
