#!/usr/bin/env bash
# Tries RDMA for real, on a device made of software in a QEMU guest: ./run.sh MEMNODE SERVER VHOST GUEST [DIR]. Needs no card and no root.
#
# Prints the guest's PASS and FAIL lines, and exits with 1 if there is any FAIL or it did not come to its end. The kernel
# is kept in DIR (default target/guest).
set -eu -o pipefail
given=()
for word in "$@"; do given+=("$(realpath -m "$word")"); done
set -- "${given[@]}"
cd "$(dirname "$0")"

say() { printf 'rdma: %s\n' "$*" >&2; exit 1; }
[ $# -ge 4 ] || say "usage: $0 MEMNODE SERVER VHOST GUEST [DIR]"
memnode=$1 server=$2 vhost=$3 guest=$4
# How long the guest may run: several times what it needs.
seconds_max=900

kernel=$(../guest/kernel.sh "${5:-../../target/guest}")
library=$(compgen -G '/usr/lib/*/libibverbs.so.1') || say "no libibverbs (make setup installs it)"
folder=$(dirname "$library")
rdma=$(command -v rdma) || say "no rdma (make setup installs it)"
strace=$(command -v strace) || say "no strace (make setup installs it)"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

modules=()
for name in crc32_generic ib_core ib_uverbs udp_tunnel ip6_udp_tunnel rdma_rxe dummy; do
    modules+=("module:$name")
done
../guest/initramfs.sh "$kernel" "$work/initramfs" guest.sh "$memnode=/usr/bin/remora-memnode" \
    "$server=/usr/bin/remora-server" "$vhost=/usr/bin/remora-vhost" "$strace=/usr/bin/strace" "$guest=/usr/bin/rdma_guest" "$rdma=/usr/bin/rdma" \
    "$library" "$folder"/libibverbs/librxe-rdmav34.so /etc/libibverbs.d/rxe.driver "${modules[@]}"
timeout "$seconds_max" qemu-system-x86_64 -accel tcg -cpu max -m 640 -nographic -no-reboot -nic none \
    -kernel "$kernel/vmlinuz" -initrd "$work/initramfs" -append 'console=ttyS0 quiet panic=-1' </dev/null >"$work/log" || true

tr -d '\r' <"$work/log" >"$work/lines"
grep -oE '(PASS|FAIL): .*|^(WriteBack|FetchNeeded|ahead|guided|sequential|none)[: ].*' "$work/lines" || true
if grep -q 'FAIL: ' "$work/lines" || ! grep -q 'TRIED ALL' "$work/lines"; then
    cat "$work/lines" >&2
    exit 1
fi
