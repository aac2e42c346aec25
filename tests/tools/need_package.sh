#!/bin/sh
# need_package.sh PACKAGE PROBE: installs a Debian package unless the shell command PROBE works already.
set -e
package=$1 probe=$2
if sh -c "$probe" >/dev/null 2>&1; then exit 0; fi
echo "solder: installing $package"
if [ "$(id -u)" = 0 ]; then run=; else run=sudo; fi
if command -v apt-get >/dev/null; then
  $run apt-get install -y -qq "$package" >/dev/null 2>&1 ||
    { $run apt-get update -qq && $run apt-get install -y -qq "$package" >/dev/null; }
fi
sh -c "$probe" >/dev/null 2>&1 ||
  { echo "solder: please install $package (or what your system calls it) and run make again" >&2; exit 1; }
