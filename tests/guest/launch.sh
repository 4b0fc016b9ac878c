#!/usr/bin/env bash
# Boots a guest for a measurement: ./launch.sh unikernel|linux LOCAL_BYTES FAR_BYTES DIR [PREFETCH]. SIGTERM ends it.
#
# It runs on the tap of network.sh and pages or swaps on a remora-vhost of its own, whose socket lies in DIR and which ends
# with it: memory, behind a modelled wire of 2.6 us and 100 Gb/s. VHOST and IMAGE_DIR name that program and what `linux.sh image` has
# made, if they are not where make puts them. ./launch.sh --version says on what the guests run.
set -eu -o pipefail
here=$(cd "$(dirname "$0")" && pwd)
target=${CARGO_TARGET_DIR:-$here/../../target}
if [ "${1:-}" = --version ]; then
    kernel=$(basename "$("$here/kernel.sh" "$target/guest")")
    echo "$(qemu-system-x86_64 --version | head -n 1), $kernel, $(redis-server --version | cut -d' ' -f1-3)"
    exit
fi
[ $# -ge 4 ] || { echo "usage: $0 unikernel|linux LOCAL_BYTES FAR_BYTES DIR [PREFETCH]" >&2; exit 1; }
# A backend that is still ending takes its own socket away, not the next one's.
kind=$1 local=$2 far=$3 socket=$4/vhost-$$

# This process becomes QEMU, and with it the backend goes.
setpriv --pdeathsig TERM "${VHOST:-$target/release/remora-vhost}" --socket "$socket" \
    --far-memory "mem:$far?latency=2.6us&bandwidth=100gbit" &
for _ in $(seq 100); do
    [ -S "$socket" ] && break
    sleep 0.05
done
# Under TCG a string instruction costs a step an element: without these flags Linux copies by eight bytes, not by one.
export FAR=vhost:$socket NET=tap0 ACCEL=${ACCEL:-tcg} CPU=${CPU:-max,erms=off,fsrm=off}
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
