#!/bin/sh
# incumbent_driver.sh FOLDER VERSION SOURCES ENTRYPOINT FLAGS USE_DKMS INTO
set -e
folder=$1 version=$2 sources=$3 entrypoint=$4 flags=$5 use_dkms=$6 into=$7
start=$folder/dtk_start_compile
done=$folder/dtk_done_compile_$(printf %s "$version" | tr .- __)
if [ ! -f "$done" ]; then
    mkdir -p "$folder"
    rm -rf "$folder/MLNX_OFED_SRC-$version"
    cp -r "$sources" "$folder/MLNX_OFED_SRC-$version"
    cp "$entrypoint" "$folder/entrypoint"
    cat >"$folder/dtk.env" <<END
export DTK_OCP_NIC_SHARED_DIR="$folder"
export DTK_OCP_COMPILED_DRIVER_VER="$version"
export DTK_OCP_START_COMPILE_FLAG="$start"
export DTK_OCP_DONE_COMPILE_FLAG="$done"
export NVIDIA_NIC_DRIVER_VER="$version"
export APPEND_DRIVER_BUILD_FLAGS="$flags"
export USE_NEW_ENTRYPOINT="true"
export USE_DKMS="$use_dkms"
END
    cat >"$folder/dtk_nic_driver_build.sh" <<END
#!/bin/sh
. "$folder/dtk.env"
exec "$folder/entrypoint" dtk-build
END
    chmod +x "$folder/dtk_nic_driver_build.sh"
    touch "$start"
fi
while [ ! -f "$done" ]; do
    sleep "${PEER_POLL:-30}"
done
for rpms in "$folder/MLNX_OFED_SRC-$version"/RPMS/redhat-release-*/"$(uname -m)"; do
    mkdir -p "$into"
    cp "$rpms"/*.rpm "$into"
    exit 0
done
