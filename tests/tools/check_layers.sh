#!/bin/sh
# check_layers.sh FILE...: rules of the layout. The FILEs are what NVRTC compiles without headers.
cd "$(dirname "$0")/../.." || exit 1
seen='<solder/solder.h>|"(\.\./)?device_option.h"|"(\.\./)?(networks|katago|ocr|solder_run)/'
faults=$(
  # examples -> graph -> ops -> runtime; examples see solder.h alone, and what they share.
  grep -rnE '#include "(ops|graph|examples|tests)/' runtime
  grep -rnE '#include "(graph|examples|tests)/' ops
  grep -rnE '#include "(examples|tests)/' graph
  grep -nE '#include ("|<solder/)' examples/*.cpp | grep -vE "$seen"
  # Programs of several files see one another's.
  grep -nE '#include (".*/|<solder/)' examples/*/*.h examples/*/*.cpp | grep -vE "$seen"
  # What differs between node kinds stands in their files and the table of those.
  grep -rn 'case NodeKind::' runtime ops graph examples | grep -v '^graph/nodes/'
  # PTX has one place.
  grep -rnE '\b(asm|__asm__)( volatile)? *\(' runtime ops graph | grep -vE "^ops/ptx/|^($(echo "$@" | tr ' ' '|')):"
  find runtime ops graph examples tests -name '*.h' -o -name '*.cpp' -o -name '*.cu' -o -name '*.cuh' -o -name '*.py' |
    xargs wc -l | awk '$1 > 500 && $2 != "total" { print $2 ": " $1 " lines, over 500" }'
)
if [ -n "$faults" ]; then
  printf 'against the layout, as check_layers.sh has it:\n%s\n' "$faults" >&2
  exit 1
fi
echo "layers: ok"
