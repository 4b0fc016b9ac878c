#!/usr/bin/env bash
# Runs COMMAND in a network namespace with a tap, which goes with it: ./network.sh COMMAND..., as root.
#
# The host's end is 10.77.0.1, the guest takes 10.77.0.2. Nothing of the host's own network is touched, and nothing of it can
# be reached from inside.
set -eu -o pipefail

[ $# -ge 1 ] || { echo "usage: $0 COMMAND..." >&2; exit 1; }
netns=remora-$$
ip netns add "$netns"
trap 'ip netns del "$netns"' EXIT
inside=(ip netns exec "$netns")
"${inside[@]}" ip link set lo up
"${inside[@]}" ip tuntap add tap0 mode tap vnet_hdr
"${inside[@]}" ip addr add 10.77.0.1/24 dev tap0
"${inside[@]}" ip link set tap0 up
"${inside[@]}" "$@"
