#!/usr/bin/env bash
# Boots Debian's kernel with the packaged redis-server, its far memory being swap: the baseline guest. Ends with QEMU.
#
#   IMAGE=DIR   what `linux.sh image DIR` has made (the kernel and an initramfs of busybox and redis-server)
#   FAR=vhost:SOCKET | nbd://...   the drive that the guest swaps on; none: no swap
#   LOCAL=BYTES   memory of Redis (a memory cgroup in the guest, in which only Redis' own pages count: neither what the
#                 kernel has for itself nor what is in its sockets); none: no limit     MEMORY=MiB of the machine
#   NET=user|tap0   PORT=6379   CPU=max   as unikernel-target/run.sh     ACCEL=tcg     CHECK=1: the guest tries swap, and ends
#
# One vCPU, q35, the machine line of unikernel-target/run.sh. SIGTERM ends it. With NET=tap0 port 6380 tells the guest's
# /proc/vmstat and what its cgroup holds to whoever connects.
set -eu -o pipefail
here=$(cd "$(dirname "$0")" && pwd)
say() { printf 'linux: %s\n' "$*" >&2; exit 1; }

if [ "${1:-}" = image ]; then
    [ $# -eq 2 ] || say "usage: $0 image DIR"
    redis=$(command -v redis-server) || say "no redis-server (make setup installs it)"
    mkdir -p "$2"
    kernel=$("$here/kernel.sh" "${KERNELS:-$here/../../target/guest}")
    modules=()
    # What is part of the kernel itself needs no module, and has none.
    for name in virtio_ring virtio virtio_pci_legacy_dev virtio_pci_modern_dev virtio_pci failover net_failover virtio_net \
        virtio_blk; do
        [ -n "$(find "$kernel/modules/" -name "$name.ko*")" ] && modules+=("module:$name")
    done
    "$here/initramfs.sh" "$kernel" "$2/initramfs" "$here/linux-init.sh" "$redis=/bin/redis-server" "${modules[@]}"
    cp "$kernel/vmlinuz" "$2/vmlinuz"
    exit
fi

image=${IMAGE:-} memory=${MEMORY:-1024} accel=${ACCEL:-tcg}
[ -e "$image/initramfs" ] || say "IMAGE is no folder that '$0 image DIR' has made"
args=(-accel "$accel" -M q35 -smp 1 -m "$memory" -nodefaults -no-reboot -display none -serial stdio
    -kernel "$image/vmlinuz" -initrd "$image/initramfs")
[ "$accel" = kvm ] && args+=(-cpu host) || args+=(-cpu "${CPU:-max}")
# What an emulated machine makes dear and a real one does not: zeroing pages before use, a clock by port, mitigations.
line="console=ttyS0 quiet panic=-1 mitigations=off init_on_alloc=0 tsc=reliable cgroup.memory=nosocket,nokmem local=${LOCAL:-} check=${CHECK:-}"
case ${FAR:-} in
'') ;;
vhost:*)
    args+=(-object "memory-backend-memfd,id=mem0,size=${memory}M,share=on" -machine memory-backend=mem0
        -chardev "socket,id=far,path=${FAR#vhost:}" -device vhost-user-blk-pci,chardev=far,num-queues=1,queue-size=256)
    ;;
*) args+=(-drive "file=$FAR,format=raw,if=none,id=far,cache=none" -device virtio-blk-pci,drive=far,num-queues=1,queue-size=256) ;;
esac
case ${NET:-user} in
user)
    args+=(-netdev "user,id=n0,hostfwd=tcp:127.0.0.1:${PORT:-6379}-:6379")
    line+=" ip=10.0.2.15/24 gateway=10.0.2.2"
    ;;
tap0)
    args+=(-netdev tap,id=n0,ifname=tap0,script=no,downscript=no)
    line+=" ip=10.77.0.2/24 gateway=10.77.0.1"
    ;;
*) say "NET is user or tap0" ;;
esac
# shellcheck disable=SC2086
exec qemu-system-x86_64 "${args[@]}" -device virtio-net-pci,netdev=n0 ${QEMU_EXTRA:-} -append "$line"
