#!/bin/sh
# pod_loop.sh FOLDER
trap 'exit 0' TERM INT
while [ ! -f "$1/dtk_start_compile" ]; do
    sleep "${PEER_POLL:-3}"
done
exec "$1/dtk_nic_driver_build.sh"
