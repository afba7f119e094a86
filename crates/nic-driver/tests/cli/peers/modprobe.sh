#!/bin/sh
# In place of modprobe: a module that is asked for, and what it depends on, is in the kernel afterwards as far as files say. Notes what it is
# called with, and the blacklist as it is then.
printf '%s\n' "modprobe $*" >>/log/commands
blacklist=/host/etc/modprobe.d/blacklist-ofed-modules.conf
[ ! -e $blacklist ] || cp $blacklist /log/blacklist
root=
while [ "$1" != -- ]; do
    [ "$1" != -d ] || root=$2
    shift
done
module=$2
if [ -e "/fail/modprobe-$module" ]; then
    echo "modprobe: ERROR: could not insert '$module': Invalid argument" >&2
    exit 1
fi
load() {
    name=${1##*/}
    name=${name%.ko}
    [ ! -e "/sys/module/$name" ] || return 0
    mkdir -p "/sys/module/$name"
    echo live >"/sys/module/$name/initstate"
    [ ! -e "/srcversions/$name" ] || cp "/srcversions/$name" "/sys/module/$name/srcversion"
    before=$(cat /proc/modules)
    printf '%s 65536 0 - Live 0x0000000000000000\n%s\n' "$name" "$before" >/proc/modules.new
    while read -r line; do
        [ -z "$line" ] || printf '%s\n' "$line"
    done </proc/modules.new >/proc/modules
}
while read -r file needed; do
    case $file in
    */"$module".ko:)
        for other in $needed; do load "$other"; done
        load "$module"
        exit 0
        ;;
    esac
done <"$root/lib/modules/$(cat /proc/sys/kernel/osrelease)/modules.dep"
echo "modprobe: FATAL: Module $module not found" >&2
exit 1
