#!/bin/sh
# The README quotes examples/1_hello.cpp: the quote and the file that is compiled must be the same, and short. Its
# pictures must be those of the data they are drawn from.
cd "$(dirname "$0")/../.." || exit 1
quoted=$(awk '/^```cpp$/ { inside = 1; next } /^```$/ { inside = 0 } inside' README.md)
if [ "$quoted" != "$(cat examples/1_hello.cpp)" ]; then
  echo "README.md does not quote examples/1_hello.cpp as it is" >&2
  exit 1
fi
if [ "$(wc -l < examples/1_hello.cpp)" -gt 20 ]; then echo "examples/1_hello.cpp has over 20 lines" >&2; exit 1; fi
if [ "$(wc -w < README.md)" -ge 1000 ]; then echo "README.md has 1000 words or more" >&2; exit 1; fi
grep -q '^build/solder-run resnet50' README.md || { echo "README.md's tutorial has no network" >&2; exit 1; }
if command -v python3 >/dev/null; then
  for picture in "bar_chart.py headline.csv" architecture.py; do
    set -- $picture
    drawn=examples/pictures/$(basename "${2:-$1}" | sed 's/\..*//').svg
    python3 "examples/pictures/$1" ${2:+"examples/pictures/$2"} | cmp -s - "$drawn" ||
      { echo "$drawn is not what $1 draws: run make pictures" >&2; exit 1; }
  done
fi
echo "readme: ok"
