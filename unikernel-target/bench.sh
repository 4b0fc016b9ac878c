#!/usr/bin/env bash
# Compares the prefetch policies inside the machine, instructions counted: no network, no noise.
#
#   WORKLOADS="get_4k ..."   DATA=32mb   SHARE=12.5 (percent local)   REQUESTS=4000   CLIENTS=16
#   FAR='mem:1gb?latency=2.6us&bandwidth=100gbit'   MEMORY=MiB of the machine   IMAGE=the ELF
#   ./bench.sh [--directive value ...]     ./bench.sh --measure-faults yes
set -eu -o pipefail

image=${IMAGE:-$(dirname "$0")/target/release/remora-unikernel}
boot() {
    local quoted=
    for word in "$@"; do quoted+=" '$word'"; done
    # Never shift=auto: then the counter would follow the host's clock.
    qemu-system-x86_64 -accel tcg -icount shift=0 -M microvm,acpi=off,rtc=on -cpu max -m "${MEMORY:-1536}" \
        -nodefaults -no-reboot -display none -serial stdio -device isa-debug-exit,iobase=0xf4,iosize=4 \
        -kernel "$image" -append "${quoted# }" </dev/null
}

if [ "${1:-}" = --measure-faults ]; then boot "$@"; exit; fi
for workload in ${WORKLOADS:-get_4k get_64k get_mixed lrange_100 lrange_mid}; do
    boot --far-memory "${FAR:-mem:1gb?latency=2.6us&bandwidth=100gbit}" --bench "$workload" \
        --bench-data "${DATA:-32mb}" --bench-local "${SHARE:-12.5}" --bench-requests "${REQUESTS:-4000}" \
        --bench-clients "${CLIENTS:-16}" "$@"
done
