#!/usr/bin/env bash
# Boots a guest for a measurement: ./launch.sh unikernel|linux LOCAL_BYTES FAR_BYTES DIR [PREFETCH]. SIGTERM ends it.
#
# It runs on the tap of network.sh and pages or swaps on a remora-vhost of its own, whose socket lies in DIR and which ends
# with it. VHOST and IMAGE_DIR name that program and what `linux.sh image` has made, if they are not where make puts them.
set -eu -o pipefail
here=$(cd "$(dirname "$0")" && pwd)
target=${CARGO_TARGET_DIR:-$here/../../target}
[ $# -ge 4 ] || { echo "usage: $0 unikernel|linux LOCAL_BYTES FAR_BYTES DIR [PREFETCH]" >&2; exit 1; }
kind=$1 local=$2 far=$3 socket=$4/vhost

# This process becomes QEMU, and with it the backend goes.
setpriv --pdeathsig TERM "${VHOST:-$target/release/remora-vhost}" --socket "$socket" --far-memory "mem:$far" &
for _ in $(seq 100); do
    [ -S "$socket" ] && break
    sleep 0.05
done
export FAR=vhost:$socket NET=tap0 ACCEL=${ACCEL:-tcg}
case $kind in
unikernel)
    # Frames, and the rest of the store.
    export LOCAL=$local MEMORY=$((local / 1048576 + 192)) PREFETCH=${5:-ahead} MACHINE=q35
    exec "$here/../../unikernel-target/run.sh"
    ;;
linux)
    # Redis, and the kernel with its own.
    export LOCAL=$local MEMORY=$((local / 1048576 + 256)) IMAGE=${IMAGE_DIR:-$target/guest/image}
    exec "$here/linux.sh"
    ;;
*) echo "launch: unikernel or linux, not $kind" >&2; exit 1 ;;
esac
