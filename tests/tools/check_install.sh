#!/bin/sh
# check_install.sh BUILD: `make install` as users and packagers do it (a PREFIX with a space, a relative one, DESTDIR),
# with the static library and the shared one; each time with projects outside the tree that know pkg-config alone, or
# CMake alone, in C++20 or C++23.
tests=$(cd "$(dirname "$0")" && pwd)
root=$tests/../..
mkdir -p "$1/check_install" && work=$(cd "$1/check_install" && pwd) || exit 1
if ! command -v pkg-config >/dev/null; then
  "$tests/need_package.sh" pkg-config 'pkg-config --version' || exit 1
fi
num_skipped=0
fail() { echo "install: $*" >&2; exit 1; }

# install_to PREFIX DESTDIR [SETTING]
install_to() {
  (umask 077; make -C "$root" install PREFIX="$1" DESTDIR="$2" BUILD="${work%/check_install}" $3) > "$work/log" 2>&1 ||
    { cat "$work/log" >&2; fail "PREFIX=$1 DESTDIR=$2 $3"; }
}

# run_sample PROGRAM C++
run_sample() {
  said=$("$1") || fail "the sample fails: $said"
  echo "$said" | grep -q "^C++$2: mish(1) = 0.8650" || fail "the sample says: $said"
}

# build_sample PREFIX C++ [OPTION]: with PREFIX's solder.pc; OPTION is one more of pkg-config's.
build_sample() {
  flags=$(PKG_CONFIG_PATH="$1/lib/pkgconfig" pkg-config ${3:+"$3"} --cflags --libs solder) || fail "no solder.pc for $1"
  project=$(mktemp -d) || exit 1
  cp "$tests/install_sample.cpp" "$project/"
  # pkg-config quotes what the shell would take apart. Its flags come last: they may not change the user's C++.
  (cd "$project" && eval "${CXX:-g++} -std=c++$2 -MMD install_sample.cpp $flags -o sample") || fail "the sample does not build with $flags"
  run_sample "$project/sample" "$2"
  # Each installed header must be of use to it.
  sed 's/\\ /%20/g' "$project"/*.d | tr -d '\\' | tr ' ' '\n' | grep -c 'include/solder/' > "$project/used"
  find "$1/include" -type f | wc -l | cmp -s - "$project/used" || fail "headers that solder.h does not include"
  rm -rf "$project"
}

# build_with_cmake PREFIX: with PREFIX's solder-config.cmake, which no other version's users take.
build_with_cmake() {
  command -v cmake >/dev/null || { num_skipped=$((num_skipped + 1)); return; }
  project=$(mktemp -d) || exit 1
  cp "$tests/install_sample.cpp" "$project/"
  cat > "$project/CMakeLists.txt" <<'END'
cmake_minimum_required(VERSION 3.18)
project(sample CXX)
find_package(solder 9 QUIET)
if(solder_FOUND)
  message(FATAL_ERROR "solder takes itself for version 9")
endif()
find_package(solder 0.1 REQUIRED)
find_package(solder 0.1 REQUIRED)  # once more, as a dependency's dependency
add_executable(sample install_sample.cpp)
target_link_libraries(sample solder::solder)
END
  CXX="${CXX:-g++}" cmake -S "$project" -B "$project/build" -DCMAKE_PREFIX_PATH="$1" > "$work/log" 2>&1 &&
    cmake --build "$project/build" >> "$work/log" 2>&1 || { cat "$work/log" >&2; fail "no CMake project with $1"; }
  run_sample "$project/build/sample" 20
  rm -rf "$project"
}

# Of a shared library: what is seen of it is declared in its headers.
check_exports() {
  nm -DC --defined-only "$1/lib/libsolder.so" | sed -E 's/^[0-9a-f]* . //; s/^(vtable|typeinfo|typeinfo name) for //' |
    grep -vxE '_(init|fini|edata|end|_bss_start)' > "$work/exported"
  grep -q '^solder::compile(' "$work/exported" || fail "libsolder.so has no compile()"
  sed -E 's/^solder::([A-Za-z_0-9]+).*/\1/' "$work/exported" | sort -u > "$work/names"  # of a member its class
  while read -r name; do
    grep -rqwF -- "$name" "$1/include" || fail "libsolder.so shows $name"
  done < "$work/names"
}

rm -rf "$work"/*
install_to "$work/a prefix" ""
build_sample "$work/a prefix" 20
build_with_cmake "$work/a prefix"
"$work/a prefix/bin/solder-run" --list | grep -q headline || fail "no solder-run"
test -z "$(find "$work/a prefix" ! -perm -444 -o -type d ! -perm -555)" || fail "not all can read what is installed"
if grep -rnE '#include "(runtime|ops|graph)/' "$work/a prefix/include" >&2; then fail "includes that only the tree has"; fi

install_to "$work/a shared prefix" "" SHARED=1
build_sample "$work/a shared prefix" 20
build_with_cmake "$work/a shared prefix"
check_exports "$work/a shared prefix"
"$work/a shared prefix/bin/solder-run" --list | grep -q headline || fail "no solder-run with libsolder.so"
ldd "$work/a shared prefix/bin/solder-run" | grep -q 'libsolder.so.*a shared prefix' || fail "solder-run does not take its own libsolder.so"

install_to "$(realpath --relative-to="$root" "$work/relative")" ""
build_sample "$work/relative" 23
test ! -e "$work/relative/lib/libsolder.so" || fail "a shared library where none was asked for"

install_to /opt/solder "$work/stage"
# A sysroot would move CUDA's libraries too, so the staged files are found by their prefix.
grep -q '^prefix=/opt/solder$' "$work/stage/opt/solder/lib/pkgconfig/solder.pc" || fail "solder.pc names the stage"
build_sample "$work/stage/opt/solder" 20 "--define-variable=prefix=$work/stage/opt/solder"
build_with_cmake "$work/stage/opt/solder"

rm -rf "$work"
if [ "$num_skipped" -gt 0 ]; then echo "install: ok, $num_skipped CMake projects skipped: there is no cmake"; else echo "install: ok"; fi
