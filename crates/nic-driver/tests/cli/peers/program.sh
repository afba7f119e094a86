#!/bin/sh
# In place of every program that an installation runs, by the name it is called by. Notes what it is called with, prints all it
# knows, and does as little as shows that it was called.
name=${0##*/}
printf '%s\n' "$name $*" >>/log/commands
if [ -e "/fail/$name" ]; then
    export -p >&2
    printf '%s\n' "$name was given $*" >&2
    exit 7
fi
kernel=$(cat /proc/sys/kernel/osrelease)
# Keeps what it is given to install, as it is when it is let go of.
keep() {
    mkdir -p /log/installed
    while [ -e /hold-installation ]; do
        : >/log/installing
        sleep 0.05
    done
    for word in "$@"; do
        case $word in
        */*.deb | */*.rpm) cp "$word" "/log/installed/$$.${word##*/}" || exit 8 ;;
        esac
    done
}
case $name in
dpkg-query)
    shift 4 # the options, and the -- behind them
    absent=0
    for package in "$@"; do
        if [ -e "/db/$package" ]; then
            cat "/db/$package"
        else
            echo "dpkg-query: no packages found matching $package" >&2
            absent=1
        fi
    done
    exit $absent
    ;;
rpm)
    if [ "$1" = -q ]; then
        shift 4
        absent=0
        for package in "$@"; do
            if [ -e "/db/$package" ]; then
                cat "/db/$package"
            else
                echo "package $package is not installed"
                absent=1
            fi
        done
        exit $absent
    fi
    keep "$@"
    mkdir -p "/lib/modules/$kernel/extra" /db
    echo module >"/lib/modules/$kernel/extra/mlx5_core.ko"
    cp /installed/* /db/
    ;;
apt-get)
    case "$*" in
    *.deb*)
        keep "$@"
        mkdir -p "/lib/modules/$kernel/updates" /db /usr/src/ofed-1.0
        echo module >"/lib/modules/$kernel/updates/mlx5_core.ko"
        printf 'PACKAGE_NAME=ofed\nPACKAGE_VERSION=1.0\n' >/usr/src/ofed-1.0/dkms.conf
        cp /installed/* /db/
        ;;
    *linux-headers-*) mkdir -p "/lib/modules/$kernel/build" ;;
    esac
    export -p
    ;;
dkms)
    case $1 in
    status) [ ! -e /db.dkms ] || cat /db.dkms ;;
    add) echo "ofed/1.0: added" >/db.dkms ;;
    build) echo "ofed/1.0, $kernel, x86_64: built" >/db.dkms ;;
    install) echo "ofed/1.0, $kernel, x86_64: installed" >/db.dkms ;;
    esac
    ;;
depmod)
    for word in "$@"; do
        [ "$before" != -b ] || base=$word
        before=$word
    done
    for folder in "$base/lib/modules/$kernel" "$base/usr/lib/modules/$kernel"; do
        [ ! -d "$folder" ] || echo "updates/mlx5_core.ko:" >"$folder/modules.dep"
    done
    ;;
*)
    export -p
    ;;
esac
exit 0
