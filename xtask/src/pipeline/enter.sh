# enter.sh ROOT LAYERS UPPER WORK FACTS [FOLDER PLACE]... -- PROGRAM [ARGUMENT]...
# In namespaces of its own: the container's root out of its layers, a /proc that tells of the
# node's kernel and of no loaded module, and what is bound in.
set -e
root=$1 layers=$2 upper=$3 work=$4 facts=$5
shift 5
mount -t overlay overlay -o "lowerdir=$layers,upperdir=$upper,workdir=$work" "$root"
mkdir -p "$root/.proc"
mount -t proc proc "$root/.proc"
mount -t tmpfs tmpfs "$root/proc"
mkdir -p "$root/proc/sys/kernel"
for part in . sys sys/kernel; do
    for entry in "$root/.proc/$part"/*; do
        name=${entry##*/}
        case "$part/$name" in
        ./[0-9]* | ./modules | ./version | ./sys | sys/kernel | sys/kernel/osrelease) ;;
        *) ln -s "/.proc/$part/$name" "$root/proc/$part/$name" ;;
        esac
    done
done
cp "$facts/version" "$facts/modules" "$root/proc/"
cp "$facts/osrelease" "$root/proc/sys/kernel/"
mount --rbind /dev "$root/dev"
while [ "$1" != -- ]; do
    mkdir -p "$root$2"
    mount --bind "$1" "$root$2"
    shift 2
done
shift
exec chroot "$root" "$@"
