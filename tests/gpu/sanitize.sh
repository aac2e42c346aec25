#!/bin/sh
# sanitize.sh TESTS PLANTED_BUG [1]: compute-sanitizer's four tools over the GPU tests. A planted out-of-bounds write
# must be caught first, or a clean report would mean nothing. With 1 the planted bug is part of what is tested, and
# the run fails.
tests=$1 planted=$2 plant=$3
if ! command -v compute-sanitizer >/dev/null; then echo "compute-sanitizer is not here" >&2; exit 1; fi
sanitize() { compute-sanitizer --error-exitcode 9 --print-limit 5 "$@"; }

if [ "$plant" = 1 ]; then sanitize "$planted"; exit $?; fi
if sanitize "$planted" >/dev/null 2>&1; then echo "the planted bug was not caught" >&2; exit 1; fi
echo "planted out-of-bounds write: caught"

# Whole tables, memory figures and delays say nothing more under a sanitizer and take hours.
filter='--test-case=[gpu]*,conv2d: every*,elementwise*,model*,data*,accuracy: special*'
skip='--test-case-exclude=*conformance*,*conv_shapes*,*100 runs*,*out of device memory*,*larger than the card*,*device memory taken*,*four threads*,*threads:*,*times full and free*,*lost device*,*streams:*,*all 2^32 inputs*,*huge*'
logs=$(mktemp -d) || exit 1
trap 'rm -rf "$logs"' EXIT
export SOLDER_GRAPHS=20 SOLDER_PROGRAMS=8
# Side by side: most of their time is the host's. Two tools cannot follow cuBLAS on Hopper: racecheck reports its kernels
# "nvjet", or with these left out loses the device in a captured graph, and initcheck does not see what they store.
for tool in memcheck racecheck initcheck synccheck; do
  exclude= sanitized=1 without=
  case $tool in racecheck|initcheck) sanitized=without_cublas without=',*small workspace*';; esac
  if [ $tool = racecheck ]; then exclude='--kernel-name-exclude kernel_substring=nvjet'; fi
  (export SOLDER_SANITIZED=$sanitized; sanitize --tool $tool $exclude "$tests" "$filter" "$skip$without" > "$logs/$tool" 2>&1; echo $? > "$logs/$tool.status") &
done
wait
for tool in memcheck racecheck initcheck synccheck; do
  echo "$tool: $(grep -E 'passed, .* failed' "$logs/$tool"); $(grep 'SUMMARY' "$logs/$tool")"
  if [ "$(cat "$logs/$tool.status")" != 0 ]; then cat "$logs/$tool"; exit 1; fi
done
echo "sanitize: clean"
