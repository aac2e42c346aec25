#!/bin/sh
# Includes point one way only: examples -> graph -> ops -> runtime, and examples see solder.h alone, and what they share.
cd "$(dirname "$0")/../.." || exit 1
seen='<solder/solder.h>|"(\.\./)?device_option.h"'
found=$(
  grep -rnE '#include "(ops|graph|examples|tests)/' runtime
  grep -rnE '#include "(graph|examples|tests)/' ops
  grep -rnE '#include "(examples|tests)/' graph
  grep -nE '#include ["<]' examples/*.cpp /dev/null | grep -E '"|<solder/' | grep -vE "$seen"
  # solder-run is of several files, which see one another.
  grep -nE '#include ["<]' examples/solder_run/* | grep -E '".*/|<solder/' | grep -vE "$seen"
)
if [ -n "$found" ]; then
  echo "includes against the layers:" >&2
  echo "$found" >&2
  exit 1
fi
echo "layers: ok"
