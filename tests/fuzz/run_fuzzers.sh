#!/bin/sh
# run_fuzzers.sh BUILD SECONDS: libFuzzer on both loaders, solder-run's text format and ONNX, a quarter of SECONDS each,
# from the sample files. A finding stays in BUILD as a file.
set -e
build=$1 seconds=$2
"$build/fuzz_corpus" "$build/corpus"
for format in npy safetensors text_graph onnx; do
  log=$build/fuzz_$format.log dict=tests/fuzz/fuzz_formats.dict
  if [ $format = text_graph ]; then
    dict=$build/fuzz_text_graph.dict
    cat tests/fuzz/fuzz_text_graph.dict "$build/corpus/functions.dict" > "$dict"
  fi
  "$build/fuzz_$format" -max_total_time=$((seconds / 4)) -max_len=2048 -timeout=20 -print_final_stats=1 \
    -dict=$dict -artifact_prefix="$build/fuzz_$format." "$build/corpus/$format" 2>"$log" ||
    { tail -40 "$log" >&2; exit 1; }
  echo "fuzz_$format: $(sed -n 's/^Done \([0-9]* runs in [0-9]* second(s)\)/\1/p' "$log"), no finding"
done
