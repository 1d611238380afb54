#!/bin/sh
# install.sh LOCK: installs a lock's wheels below /image as the image will have them, compiled, with fixed times.
# Wheels that lie in /wheelhouse are taken from there. Without OFFLINE=1 the rest comes from the index.
set -eu
lock=$1
site=/opt/slipway/lib/python3.11/site-packages
export UV_FIND_LINKS=/wheelhouse UV_NO_CACHE=1 UV_NO_CONFIG=1 SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt

set -- --no-deps --only-binary :all: --require-hashes --link-mode copy --target "$site" --requirement "$lock"
# The wheelhouse's CPU build answers to the CUDA lock's torch too, but is not what that lock's hashes name.
if grep -q '^nvidia-' "$lock"; then rm -f /wheelhouse/torch-*+cpu-*; fi
if [ "${OFFLINE:-}" = 1 ]; then
  set -- "$@" --no-index
elif grep -q '^torch==.*+cpu' "$lock"; then
  # PyPI does not have it, so where it is at hand nothing else is asked.
  if [ -n "$(find /wheelhouse -name 'torch-*+cpu-*')" ]; then
    set -- "$@" --no-index
  else
    set -- "$@" --default-index https://download.pytorch.org/whl/cpu
  fi
fi
uv pip install --quiet --python python3 "$@"

# No image needs commands, headers, or the tests of the largest packages.
cd "$site"
rm -rf bin share .lock torch/test torch/include torch/bin/*test* torch/bin/protoc* pyarrow/include
for package in numpy onnx pandas pyarrow scipy sklearn sympy; do
  if [ -d $package ]; then find $package -type d -name tests -prune -exec rm -rf {} +; fi
done
cd /
# "unchecked": the code of an image does not change, so a file's time need not be compared at each import.
python3 -m compileall -q -j 0 --invalidation-mode unchecked-hash "$site" > /dev/null || true
mkdir -p /image/opt
mv /opt/slipway /image/opt/slipway
find /image -exec touch -h -d "@${SOURCE_DATE_EPOCH:-0}" {} +
