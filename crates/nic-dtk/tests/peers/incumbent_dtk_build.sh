#!/bin/sh
# incumbent_dtk_build.sh dtk-build
[ "$*" = dtk-build ] || exit 1
for value in "$DTK_OCP_NIC_SHARED_DIR" "$DTK_OCP_COMPILED_DRIVER_VER" "$DTK_OCP_START_COMPILE_FLAG" "$DTK_OCP_DONE_COMPILE_FLAG"; do
    [ -n "$value" ] || exit 1
done
dnf install -y perl || exit 1
dnf install -y ethtool autoconf pciutils automake libtool python3-devel || exit 1
while [ ! -f "$DTK_OCP_START_COMPILE_FLAG" ]; do
    sleep "${PEER_POLL:-3}"
done
sources=$DTK_OCP_NIC_SHARED_DIR/MLNX_OFED_SRC-$DTK_OCP_COMPILED_DRIVER_VER
eval "set -- $APPEND_DRIVER_BUILD_FLAGS"
[ "$USE_DKMS" = true ] || set -- --disable-kmp --without-dkms "$@"
"$sources/install.pl" --build-only --kernel-only --without-knem --without-iser --without-isert --without-srp \
    --with-mlnx-tools --with-ofed-scripts --copy-ifnames-udev "$@" || exit 1
touch "$DTK_OCP_DONE_COMPILE_FLAG"
rm -f "$DTK_OCP_START_COMPILE_FLAG"
trap 'exit 1' TERM
while :; do
    sleep "${PEER_POLL:-3}"
done
