#!/bin/sh
# The first program of the guest: an RDMA device made of software over a network card that is none, and remora-memnode on it.
# Each thing that is tried ends in a line PASS or FAIL; the last line says that all was tried.
export PATH=/bin:/usr/bin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
ulimit -l unlimited
ip link set lo up

pass() { echo "PASS: $*"; }
fail() { echo "FAIL: $*"; }

# Looks for $2 in what the check has said.
says() { if grep -q "$2" /tmp/said; then pass "$1"; else fail "$1"; cat /tmp/said; fi; }
check() { remora-memnode --rdma-check "$@" >/tmp/said 2>&1; code=$?; }
exits() { if [ "$code" = "$2" ]; then pass "$1"; else fail "$1: exit $code"; cat /tmp/said; fi; }

check
exits "without a device the check fails" 1
says "without a device it says so" "rdma:// needs libibverbs and an RDMA device: the kernel module ib_uverbs is not loaded"

echo 0123456789abcdef >/tmp/secret
remora-memnode --size 1mb --nbd-unix /tmp/n --rdma 127.0.0.1:10810 --secret-file /tmp/secret >/tmp/said 2>&1; code=$?
exits "without a device a node does not start" 1
says "without a device a node says so" "rdma:// needs libibverbs and an RDMA device: "
remora-server --port 7 --far-memory 'rdma://127.0.0.1/?secret-file=/tmp/secret' >/tmp/said 2>&1; code=$?
exits "without a device a server does not start" 1
says "without a device a server says so" "rdma:// needs libibverbs and an RDMA device: "

for name in $(cat /modules/order); do insmod "/modules/$name.ko" || fail "insmod $name"; done
ip link add dummy0 type dummy
ip link set dummy0 mtu 4500 up
ip addr add 10.77.0.1/24 dev dummy0
check
says "without a device it says which is missing" "this machine has no RDMA device"
rdma link add rxe0 type rxe netdev dummy0 || fail "a device is made"

check
exits "the check passes" 0
says "the GID of RoCE v2 over IPv4 is taken" "found rxe0 port 1 gid .* = 10.77.0.1 (RoCE v2 over IPv4)"
says "a page fits in one packet" "packets of 4096 bytes"
says "a chain is one call and one completion" "8 pages written and 8 read back, all right: 2 calls, 2 completions"
says "out of bounds is an error" "a READ out of bounds ends in 'remote access error'"
says "after an error fresh pairs work" "works again after the error"

check --rdma-gid 10.77.0.1
exits "a GID is chosen by its address" 0
check --rdma-gid 10.99.0.1
exits "a wrong GID is refused" 1
says "a wrong GID is answered by those that are there" "no RDMA GID fits; there is: rxe0 port 1"

head -c 32 /dev/urandom | md5sum >/tmp/secret
export REMORA_SERVER=/usr/bin/remora-server REMORA_MEMNODE=/usr/bin/remora-memnode REMORA_VHOST=/usr/bin/remora-vhost
rdma_guest 10.77.0.1 /tmp/secret 2>/tmp/trouble | tee /tmp/said
grep -q FAIL /tmp/said && tail -n 60 /tmp/trouble

ulimit -l 16
check
if [ "$(id -u)" = 0 ]; then exits "root may lock memory whatever the limit" 0; fi

ip link set dummy0 down
check
exits "a port that is down is refused" 1
says "a port that is down is told so" "is down"

echo "TRIED ALL"
poweroff -f
