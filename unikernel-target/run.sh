#!/usr/bin/env bash
# Boots the unikernel in QEMU and ends as it ends: 0 after SHUTDOWN, 1 if it would not start, 3 after a bug.
#
#   MACHINE=q35|pc|microvm   NET=user|tap|tap0   PORT=6379   LOCAL=64mb   FAR=mem:512mb   PREFETCH=ahead
#   ACCEL=tcg|kvm   CPU=max   MEMORY=MiB of the machine   IMAGE=the ELF   QEMU_EXTRA=more arguments of QEMU
#   ./run.sh [--directive value ...]
#
# FAR=vhost:SOCKET is a disk of `remora-vhost --socket SOCKET` (q35 and pc): its pages go straight into the machine's frames.
# FAR=nbd://HOST:PORT/ or nbd+unix:///?socket=PATH is QEMU's own NBD drive, FAR=drive:PATH a raw file or device.
# NET=user: PORT of 127.0.0.1 leads to the machine (few clients). NET=tap, as root: the machine is at 10.77.0.2
# in a network namespace of its own, which goes with it; `ip netns exec $NETNS redis-cli -h 10.77.0.2` talks to it
# (NETNS=NAME). NET=tap0: the same on a tap of that name that is there already (tests/guest/network.sh makes one).
set -eu -o pipefail

machine=${MACHINE:-q35} net=${NET:-user} port=${PORT:-6379} accel=${ACCEL:-tcg}
here=$(cd "$(dirname "$0")" && pwd)
image=${IMAGE:-$here/target/release/remora-unikernel}
say() { printf 'run: %s\n' "$*" >&2; exit 1; }

[ "$net" != tap ] || NET=tap0 exec "$here/../tests/guest/network.sh" "$here/run.sh" "$@"

command -v qemu-system-x86_64 >/dev/null || say "no qemu-system-x86_64 (make setup installs it)"
[ -e "$image" ] || say "no image at $image (make unikernel builds it)"

args=(-accel "$accel" -m "${MEMORY:-1024}" -nodefaults -no-reboot -display none -serial stdio
    -device isa-debug-exit,iobase=0xf4,iosize=4 -kernel "$image")
[ "$accel" = kvm ] && args+=(-cpu host) || args+=(-cpu "${CPU:-max}")
case $machine in
q35 | pc) args+=(-M "$machine") bus=pci ;;
microvm) args+=(-M microvm,acpi=off,rtc=on -global virtio-mmio.force-legacy=false) bus=device ;;
*) say "MACHINE is q35, pc or microvm" ;;
esac

far=${FAR:-mem:512mb}
case $far in
vhost:*)
    [ "$machine" != microvm ] || say "FAR=vhost: is for q35 and pc"
    args+=(-object "memory-backend-memfd,id=mem0,size=${MEMORY:-1024}M,share=on" -machine memory-backend=mem0
        -chardev "socket,id=far,path=${far#vhost:}" -device vhost-user-blk-pci,chardev=far,num-queues=1,queue-size=256)
    far=virtio-blk:
    ;;
nbd://* | nbd+unix://* | drive:*)
    # A comma ends QEMU's value unless it is doubled. What goes wrong is the store's to tell, so the machine is not stopped.
    drive=${far#drive:}
    args+=(-drive "file=${drive//,/,,},format=raw,if=none,id=far,rerror=report,werror=report"
        -device "virtio-blk-$bus,drive=far,num-queues=1,queue-size=256")
    far=virtio-blk:
    ;;
esac

line=(--port 6379 --protected-mode no --local-memory "${LOCAL:-64mb}" --far-memory "$far"
    --prefetch "${PREFETCH:-ahead}")
case $net in
user)
    args+=(-netdev "user,id=n0,hostfwd=tcp:127.0.0.1:$port-:6379")
    line+=(--ip 10.0.2.15/24 --gateway 10.0.2.2)
    ;;
tap0)
    args+=(-netdev tap,id=n0,ifname=tap0,script=no,downscript=no)
    line+=(--ip 10.77.0.2/24 --gateway 10.77.0.1)
    ;;
*) say "NET is user, tap or tap0" ;;
esac
args+=(-device "virtio-net-$bus,netdev=n0")

# What follows wins over what stands above, but for --far-memory, which FAR sets.
quoted=
for word in "${line[@]}" "$@"; do quoted+=" '$word'"; done
# shellcheck disable=SC2086
exec qemu-system-x86_64 "${args[@]}" ${QEMU_EXTRA:-} -append "${quoted# }"
