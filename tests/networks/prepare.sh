#!/bin/sh
# prepare.sh MODELS GOLDENS [fetch | BUILD]: fills the folder MODELS with what the tests of whole networks read (prepare.py). With
# "fetch" it downloads what is missing, numpy and onnx included where python3 has none; without, it never does, and where
# nothing has been fetched it only says why those tests are skipped. With a folder BUILD it runs the examples there, too.
set -e
models=$1 goldens=$2
[ "$3" = fetch ] && fetch=yes build= || fetch= build=$3
here=$(dirname "$0")
skip() { echo "networks: their tests are skipped: $1; make models fetches it"; exit 0; }

export PYTHONPATH="$models/python${PYTHONPATH:+:$PYTHONPATH}"
if [ -n "$fetch" ]; then
  "$here/../tools/need_package.sh" python3-pip 'python3 -m pip --version'
  "$here/../tools/need_package.sh" zlib1g-dev "${CXX:-g++} -include zlib.h -E -x c++ /dev/null"
  mkdir -p "$models"
  python3 -c 'import numpy, onnx' 2>/dev/null ||
    python3 -m pip install --quiet --disable-pip-version-check --root-user-action=ignore --target "$models/python" numpy onnx==1.22.0
  python3 "$here/fetch_models.py" "$models"
else
  [ -f "$models/katago_b18c384nbt.bin.gz" ] || skip "$models has no models"
  python3 -c 'import numpy' 2>/dev/null || skip "there is no numpy for python3"
fi
python3 "$here/prepare.py" "$models" "$goldens"
if [ -f "$models/onnx/node_tests.zip" ] && python3 -c 'import onnx' 2>/dev/null; then
  python3 "$here/prepare_onnx.py" "$models" "$goldens"
else
  echo "onnx: its tests on whole models are skipped: $models has no ONNX models or there is no onnx for python3; make models fetches them"
fi
[ -z "$build" ] || python3 "$here/check_examples.py" "$models" "$goldens" "$build"
