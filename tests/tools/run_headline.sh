#!/bin/sh
# run_headline.sh EXAMPLE: the headline model, checked. Where PyTorch and a GPU are, on PyTorch's weights and input
# and against PyTorch's output too; otherwise on random ones.
example=$1
here=$(dirname "$0")
if python3 -c 'import sys, torch; sys.exit(not torch.cuda.is_available())' 2>/dev/null; then
  exec python3 "$here/peer_torch.py" --example "$example"
fi
for math in fp32 tf32; do
  "$example" --check --math $math || exit 1
  # The CPU computes in float32 whatever --math says: once is enough.
  if ! [ -e /dev/nvidia0 ]; then exit 0; fi
done
