#!/bin/sh
# The README quotes examples/hello.cpp: the quote and the file that is compiled must be the same, and short.
cd "$(dirname "$0")/.." || exit 1
quoted=$(awk '/^```cpp$/ { inside = 1; next } /^```$/ { inside = 0 } inside' README.md)
if [ "$quoted" != "$(cat examples/hello.cpp)" ]; then
  echo "README.md does not quote examples/hello.cpp as it is" >&2
  exit 1
fi
if [ "$(wc -l < examples/hello.cpp)" -ge 50 ]; then echo "examples/hello.cpp has 50 lines or more" >&2; exit 1; fi
echo "readme: ok"
