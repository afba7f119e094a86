#!/bin/sh
# What it does besides is said by variables: INSTALL_PL_RUNS is a file with a line for each run; INSTALL_PL_GATE is a
# file that is waited for in the middle of the build (its path with .reached tells that it is); INSTALL_PL=fail.
here=${0%/*}
[ -z "$INSTALL_PL_RUNS" ] || echo run >>"$INSTALL_PL_RUNS"
rpms=$here/RPMS/redhat-release-9.6-0.1.el9/$(uname -m)
mkdir -p "$rpms" || exit 1
for package in mlnx-ofa_kernel-25.10-1 mlnx-tools-25.10-0; do
    file=$rpms/$package.rpm
    if [ -e "$file" ]; then
        echo "$package is built already"
        continue
    fi
    echo "Building $package"
    printf half >"$file" || exit 1
    if [ -n "$INSTALL_PL_GATE" ]; then
        touch "$INSTALL_PL_GATE.reached"
        while [ ! -e "$INSTALL_PL_GATE" ]; do sleep 0.02; done
    fi
    if [ "$INSTALL_PL" = fail ]; then
        echo "cc1: error: $package does not compile" >&2
        exit 1
    fi
    {
        echo "$package"
        printf '<%s>\n' "$@"
    } >"$file" || exit 1
done
