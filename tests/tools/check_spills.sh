#!/bin/sh
# check_spills.sh LOG: fails when ptxas reports register spills in a kernel of a compilation, unless
# tests/tools/spills.txt allows it that many bytes.
here=$(dirname "$0")
awk -v allowed_file="$here/spills.txt" '
  BEGIN { while ((getline line < allowed_file) > 0) if (line !~ /^#/ && split(line, f, " ") == 2) allowed[f[1]] = f[2] }
  /Compiling entry function/ { split($0, q, "\047"); kernel = q[2] }
  /bytes spill stores/ {
    for (i = 1; i <= NF; ++i) if ($i == "spill" && $(i + 1) ~ /^stores/) bytes = $(i - 2)
    limit = 0
    for (pattern in allowed) if (kernel ~ pattern && allowed[pattern] + 0 > limit) limit = allowed[pattern] + 0
    if (bytes + 0 > limit) { print "spills " bytes " bytes (allowed " limit "): " kernel; bad = 1 }
  }
  END { exit bad }' "$1" >&2
