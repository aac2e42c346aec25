#!/bin/sh
# check_examples.sh BUILD: runs the tutorial's programs and compares what they print with what is right. awk computes
# the expected numbers in double, on its own.
build=$(cd "$1" && pwd) || exit 1
cd "$(dirname "$0")/../.." || exit 1
out=$build/check_examples.txt

fail() { echo "$1: $2; it printed:" >&2; cat "$out" >&2; exit 1; }
example() {
  name=$1
  shift
  "$build/$name" "$@" > "$out" 2>&1 || fail "$name" "exit status $?"
  lines=$(wc -l < "examples/$name.cpp")
  [ "$lines" -lt 80 ] || fail "$name" "the source has $lines lines, 80 or more"
}
expect() { awk "$2" "$out" || fail "$name" "expected $1"; }

example 1_hello
expect "the four outputs as awk computes them" '
  function mish(v) { u = exp(v); n = u * (u + 2); return v * n / (n + 2) }  # tanh(log(1 + e^v)) = n / (n + 2)
  BEGIN { split("0.5 -0.5 0.25 -0.125", w, " ") }
  {
    x = 3 * int((NR - 1) / 2) + (NR - 1) % 2 + 1  # the upper left of the four, which are 1 to 9 in three rows
    difference = $1 - mish(x * w[1] + (x + 1) * w[2] + (x + 3) * w[3] + (x + 4) * w[4])
    if (difference < 1e-5 && difference > -1e-5) ++right
  }
  END { exit !(right == 4 && NR == 4) }'

example 2_own_weights tests/data "$build/check_examples.npy"
expect "a difference from PyTorch under 1e-6" '/relative difference from PyTorch:/ { ok = $NF > 0 && $NF < 1e-6 } END { exit !ok }'
[ "$(wc -c < "$build/check_examples.npy")" = $((128 + 4 * 2 * 128 * 11 * 12)) ] || fail "$name" "y of another size"

# The names that a torch.nn.Sequential writes; blanks keep the header's length.
recipe=$build/check_examples
mkdir -p "$recipe"
cp tests/data/headline_small_[xy].npy "$recipe/"
LC_ALL=C sed 's/"conv\.\([a-z]*\)"/"0.\1"   /g' tests/data/headline_small.safetensors > "$recipe/headline_small.safetensors"
example 2_own_weights "$recipe"
expect "the same on a Sequential's names" '/^0.weight/ { names = 1 } /relative difference/ { ok = $NF < 1e-6 } END { exit !(names && ok) }'
LC_ALL=C sed 's/"0\./"1./g' "$recipe/headline_small.safetensors" > "$recipe/other" && mv "$recipe/other" "$recipe/headline_small.safetensors"
"$build/2_own_weights" "$recipe" > "$out" 2>&1
[ $? = 1 ] && grep -q '1.weight' "$out" || fail "$name" "no error of its own on other names"
rm -r "$recipe"

example 3_residual_block
expect "bit for bit agreement and less memory" '
  /agree bit for bit/ { same = 1 }
  /values in memory:/ { less = $4 > $8 && $8 == 3 * 4 * 2 * 32 * 28 * 28 }
  /as run/ { run = 1 }
  run && / = (conv2d|matmul|elementwise)/ { ++nodes }
  END { exit !(same && less && nodes == 2) }'

example 4_custom_activation
expect "one fused program that is right" '
  /: e0 = / { ++programs }
  /worst difference from float64:/ { ok = $NF < 1e-5 }
  /f\(-20\) = -2$/ { far = 1 }
  END { exit !(programs == 1 && ok && far) }'

example 5_profiling
expect "three nodes, the bias inside the product, whose shares add up" '
  $2 ~ /^(conv2d|matmul|elementwise)$/ { ++nodes; share += $4; if ($3 <= 0) bad = 1 }
  $1 == "conv1" && $6 > 0 { conv = 1 }
  END { exit !(nodes == 3 && share > 99.5 && share < 100.5 && conv && !bad) }'

rm -f "$out" "$build/check_examples.npy"
echo "examples: ok"
