#!/bin/sh
# check_spills.sh LOG: fails when ptxas reports register spills in any kernel of a compilation.
if grep -qE '[1-9][0-9]* bytes spill' "$1"; then
  echo "register spills:" >&2
  grep -E 'Compiling entry|[1-9][0-9]* bytes spill' "$1" | grep -B1 'spill' >&2
  exit 1
fi
