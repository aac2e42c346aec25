#!/bin/sh
# sanitize.sh TESTS PLANTED_BUG [1]: compute-sanitizer's four tools over the GPU tests, each case and tool a process, as
# many side by side as there are cores: most of their time is the host's. A planted out-of-bounds write must be caught
# first, or a clean report would mean nothing. With 1 the planted bug is part of what is tested, and the run fails.
tests=$1 planted=$2 plant=$3
if ! command -v compute-sanitizer >/dev/null; then echo "compute-sanitizer is not here" >&2; exit 1; fi
if [ "$plant" = 1 ]; then compute-sanitizer --error-exitcode 9 "$planted"; exit $?; fi
if compute-sanitizer --error-exitcode 9 "$planted" >/dev/null 2>&1; then echo "the planted bug was not caught" >&2; exit 1; fi
echo "planted out-of-bounds write: caught"

# Whole tables, memory figures and delays say nothing more under a sanitizer and take hours.
filter='--test-case=[gpu]*,conv2d: every*,elementwise*,model*,data*,accuracy: special*'
skip='--test-case-exclude=*conformance*,*conv_shapes*,*100 runs*,*out of device memory*,*larger than the card*,*device memory taken*,*four threads*,*threads:*,*times full and free*,*lost device*,*streams:*,*all 2^32 inputs*,*huge*'
logs=$(mktemp -d) || exit 1
trap 'rm -rf "$logs"' EXIT
export tests logs SOLDER_GRAPHS=20 SOLDER_PROGRAMS=8
SOLDER_SANITIZED=1 "$tests" --list-test-cases "$filter" "$skip" | grep -v '^===\|^\[doctest\]' > "$logs/cases"

# Two tools cannot follow cuBLAS on Hopper: racecheck reports its kernels "nvjet", or with these left out loses the device
# in a captured graph, and initcheck does not see what they store. racecheck comes first, as its longest case takes as long
# as all others together.
for tool in racecheck memcheck initcheck synccheck; do
  case $tool in racecheck|initcheck) grep -v 'small workspace' "$logs/cases";; *) cat "$logs/cases";; esac | sed "s/^/$tool /"
done > "$logs/jobs"
one='
  number=$1; tool=${2%% *}; name=$(printf %s "${2#* }" | tr , "?")
  export SOLDER_SANITIZED=1; exclude=
  case $tool in racecheck|initcheck) SOLDER_SANITIZED=without_cublas;; esac
  if [ $tool = racecheck ]; then exclude="--kernel-name-exclude kernel_substring=nvjet"; fi
  compute-sanitizer --error-exitcode 9 --print-limit 5 --tool $tool $exclude "$tests" --test-case="$name" > "$logs/$number" 2>&1 &&
    grep -q "| *[1-9][0-9]* passed | *0 failed" "$logs/$number" && echo $tool >> "$logs/clean" ||
    { echo "$tool: $name"; cat "$logs/$number"; } > "$logs/$number.bad"
'
nl -w 1 -s ' ' "$logs/jobs" | sed 's/ /\n/' | xargs -d '\n' -P "$(nproc)" -n 2 sh -c "$one" sh
touch "$logs/clean"
for tool in memcheck racecheck initcheck synccheck; do
  echo "$tool: $(grep -c "^$tool$" "$logs/clean") of $(grep -c "^$tool " "$logs/jobs") cases clean"
done
cat "$logs"/*.bad 2>/dev/null && exit 1
[ -s "$logs/jobs" ] && echo "sanitize: clean"
