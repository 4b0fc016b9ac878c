#!/usr/bin/env bash
# Runs COMMAND in a network namespace with a tap, which goes with it: ./network.sh COMMAND..., as root.
#
# The host's end is 10.77.0.1, the guest takes 10.77.0.2 on tap0. Nothing of the host's own network is touched, and nothing of
# it can be reached from inside. NETNS names the namespace, for `ip netns exec $NETNS redis-cli -h 10.77.0.2`. Who ends this
# script ends the command.
set -eu -o pipefail

say() { printf 'network: %s\n' "$*" >&2; exit 1; }
[ $# -ge 1 ] || say "usage: $0 COMMAND..."
[ "$(id -u)" = 0 ] || say "a network of its own needs root"
netns=${NETNS:-remora-$$}
ip netns add "$netns"
trap 'ip netns del "$netns"' EXIT
inside=(ip netns exec "$netns")
"${inside[@]}" ip link set lo up
"${inside[@]}" ip tuntap add tap0 mode tap vnet_hdr
"${inside[@]}" ip addr add 10.77.0.1/24 dev tap0
"${inside[@]}" ip link set tap0 up
"${inside[@]}" setpriv --pdeathsig TERM "$@"
