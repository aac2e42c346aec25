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
skip='--test-case-exclude=*conformance*,*conv_shapes*,*100 runs*,*out of device memory*,*larger than the card*,*device memory taken*,*four threads*,*threads: 16*,*times full and free*,*lost device*,*streams:*,*all 2^32 inputs*,*huge*'
for tool in memcheck racecheck initcheck synccheck; do
  echo "$tool:"
  SOLDER_GRAPHS=20 SOLDER_PROGRAMS=8 SOLDER_REPEATS=1 sanitize --tool $tool "$tests" "$filter" "$skip" || exit 1
done
echo "sanitize: clean"
