#!/bin/sh
# prepare.sh MODELS GOLDENS [fetch]: fills the folder MODELS with what the tests of whole networks read (prepare.py). With
# "fetch" it downloads what is missing, numpy included where python3 has none; without, it never does, and where
# nothing has been fetched it only says why those tests are skipped.
set -e
models=$1 goldens=$2 fetch=$3
here=$(dirname "$0")
skip() { echo "networks: their tests are skipped: $1; make models fetches it"; exit 0; }

export PYTHONPATH="$models/python${PYTHONPATH:+:$PYTHONPATH}"
if [ "$fetch" = fetch ]; then
  "$here/../tools/need_package.sh" python3-pip 'python3 -m pip --version'
  mkdir -p "$models"
  python3 -c 'import numpy' 2>/dev/null ||
    python3 -m pip install --quiet --disable-pip-version-check --root-user-action=ignore --target "$models/python" numpy
  python3 "$here/fetch_models.py" "$models"
else
  [ -f "$models/katago_b18c384nbt.bin.gz" ] || skip "$models has no models"
  python3 -c 'import numpy' 2>/dev/null || skip "there is no numpy for python3"
fi
python3 "$here/prepare.py" "$models" "$goldens"
