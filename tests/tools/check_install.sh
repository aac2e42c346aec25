#!/bin/sh
# check_install.sh BUILD: `make install` as users and packagers do it (a PREFIX with a space, a relative one, DESTDIR),
# each time with a project outside the tree that knows pkg-config alone, in C++20 or C++23.
tests=$(cd "$(dirname "$0")" && pwd)
root=$tests/../..
mkdir -p "$1/check_install" && work=$(cd "$1/check_install" && pwd) || exit 1
if ! command -v pkg-config >/dev/null; then
  "$tests/need_package.sh" pkg-config 'pkg-config --version' || exit 1
fi
fail() { echo "install: $*" >&2; exit 1; }

# install_to PREFIX [DESTDIR]
install_to() {
  make -C "$root" install PREFIX="$1" DESTDIR="$2" > "$work/log" 2>&1 || { cat "$work/log" >&2; fail "PREFIX=$1 DESTDIR=$2"; }
}

# build_sample PREFIX C++ [OPTION]: with PREFIX's solder.pc; OPTION is one more of pkg-config's.
build_sample() {
  flags=$(PKG_CONFIG_PATH="$1/lib/pkgconfig" pkg-config ${3:+"$3"} --cflags --libs solder) || fail "no solder.pc for $1"
  project=$(mktemp -d) || exit 1
  cp "$tests/install_sample.cpp" "$project/"
  # pkg-config quotes what the shell would take apart. Its flags come last: they may not change the user's C++.
  (cd "$project" && eval "${CXX:-g++} -std=c++$2 -MMD install_sample.cpp $flags -o sample") || fail "the sample does not build with $flags"
  said=$("$project/sample") || fail "the sample fails: $said"
  echo "$said" | grep -q "^C++$2: mish(1) = 0.8650" || fail "the sample says: $said"
  # Each installed header must be of use to it.
  sed 's/\\ /%20/g' "$project"/*.d | tr -d '\\' | tr ' ' '\n' | grep -c 'include/solder/' > "$project/used"
  find "$1/include" -type f | wc -l | cmp -s - "$project/used" || fail "headers that solder.h does not include"
  rm -rf "$project"
}

rm -rf "$work"/*
install_to "$work/a prefix"
build_sample "$work/a prefix" 20
"$work/a prefix/bin/solder-run" --list | grep -q headline || fail "no solder-run"
if grep -rnE '#include "(runtime|ops|graph)/' "$work/a prefix/include" >&2; then fail "includes that only the tree has"; fi

install_to "$(realpath --relative-to="$root" "$work/relative")"
build_sample "$work/relative" 23

install_to /opt/solder "$work/stage"
# A sysroot would move CUDA's libraries too, so the staged files are found by their prefix.
grep -q '^prefix=/opt/solder$' "$work/stage/opt/solder/lib/pkgconfig/solder.pc" || fail "solder.pc names the stage"
build_sample "$work/stage/opt/solder" 20 "--define-variable=prefix=$work/stage/opt/solder"

rm -rf "$work"
echo "install: ok"
