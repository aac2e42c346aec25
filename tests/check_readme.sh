#!/bin/sh
# The README quotes examples/1_hello.cpp: the quote and the file that is compiled must be the same, and short.
cd "$(dirname "$0")/.." || exit 1
quoted=$(awk '/^```cpp$/ { inside = 1; next } /^```$/ { inside = 0 } inside' README.md)
if [ "$quoted" != "$(cat examples/1_hello.cpp)" ]; then
  echo "README.md does not quote examples/1_hello.cpp as it is" >&2
  exit 1
fi
if [ "$(wc -l < examples/1_hello.cpp)" -ge 50 ]; then echo "examples/1_hello.cpp has 50 lines or more" >&2; exit 1; fi
echo "readme: ok"
