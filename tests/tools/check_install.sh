#!/bin/sh
# check_install.sh BUILD MAKE: `make install`, then a project outside the tree that knows pkg-config alone.
build=$(cd "$1" && pwd) || exit 1
make=$2
tests=$(cd "$(dirname "$0")" && pwd)
if ! command -v pkg-config >/dev/null; then
  "$tests/need_package.sh" pkg-config 'pkg-config --version' || exit 1
fi
prefix=$build/check_install/prefix
rm -rf "$build/check_install"
mkdir -p "$prefix" || exit 1
$make -C "$tests/../.." install PREFIX="$prefix" > "$build/check_install/log" 2>&1 ||
  { cat "$build/check_install/log" >&2; exit 1; }

project=$(mktemp -d) || exit 1
trap 'rm -rf "$project"' EXIT
cp "$tests/install_sample.cpp" "$project/"
cd "$project" || exit 1
export PKG_CONFIG_PATH=$prefix/lib/pkgconfig
flags=$(pkg-config --cflags --libs --static solder) || exit 1
# shellcheck disable=SC2086  # the flags are several words
${CXX:-g++} install_sample.cpp $flags -o sample || { echo "the sample project does not build with: $flags" >&2; exit 1; }
said=$(./sample) || { echo "the sample project fails: $said" >&2; exit 1; }
echo "$said" | grep -q "^mish(1) = 0.8650" ||
  { echo "the sample project says: $said" >&2; exit 1; }
"$prefix/bin/solder-run" --list > list && grep -q headline list || { echo "no solder-run in $prefix/bin" >&2; exit 1; }
if grep -rnE '#include "(runtime|ops|graph)/' "$prefix/include" >&2; then echo "includes that only the tree has" >&2; exit 1; fi
rm -rf "$build/check_install"
echo "install: ok"
