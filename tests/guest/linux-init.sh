#!/bin/sh
# The first program of the baseline guest: swap on the drive, if there is one, and redis-server within its memory.
# Reads local=BYTES, check=1, ip= and gateway= from the kernel's command line (which also hands them over as variables).
export PATH=/bin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
mount -t cgroup2 cgroup /sys/fs/cgroup
for name in $(cat /modules/order); do insmod "/modules/$name.ko" || echo "FAIL: insmod $name"; done
word() { tr ' ' '\n' </proc/cmdline | sed -n "s/^$1=//p"; }
address=$(word ip) local=$(word local)

ip link set lo up
ip link set eth0 up
ip addr add "$address" dev eth0
ip route add default via "$(word gateway)"

# Redis' own advice: a failed allocation would be its end.
echo 1 >/proc/sys/vm/overcommit_memory
if [ -e /dev/vda ]; then
    mkswap /dev/vda >/dev/null && swapon /dev/vda || echo "FAIL: no swap on /dev/vda"
fi
echo +memory >/sys/fs/cgroup/cgroup.subtree_control
mkdir /sys/fs/cgroup/far
[ -z "$local" ] || echo "$local" >/sys/fs/cgroup/far/memory.max

if [ "$(word check)" = 1 ]; then
    # Three times what may stay: 24 MB that no two pages have in common, read back twice. The sums are taken before.
    echo 0 >/sys/fs/cgroup/far/cgroup.procs
    mount -t tmpfs -o size=100m tmpfs /tmp
    for n in $(seq 24); do dd if=/dev/urandom bs=64k count=16 2>/dev/null | tee /tmp/$n | md5sum | sed "s,-,/tmp/$n," >>/run/sums; done
    for round in 1 2; do
        if md5sum -c /run/sums >/tmp/said 2>&1; then echo "PASS: what was swapped comes back"; else
            echo "FAIL: what was swapped is wrong"
            cat /tmp/said
        fi
    done
    echo $(($(sed -n 's/^pswpout //p' /proc/vmstat))) pages out, $(($(sed -n 's/^pswpin //p' /proc/vmstat))) pages in
    echo max >/sys/fs/cgroup/far/memory.max
    swapoff /dev/vda && echo "PASS: all comes back at once" || echo "FAIL: swapoff"
    echo "TRIED ALL"
    poweroff -f
fi
# How much is swapped, for whoever measures.
cat >/run/vmstat <<'END'
#!/bin/sh
cat /proc/vmstat
echo memory_current $(cat /sys/fs/cgroup/far/memory.current)
echo memory_swap_current $(cat /sys/fs/cgroup/far/memory.swap.current)
END
chmod 755 /run/vmstat
nc -ll -p 6380 -e /run/vmstat &
(
    echo 0 >/sys/fs/cgroup/far/cgroup.procs
    exec redis-server --port 6379 --bind 0.0.0.0 --protected-mode no --save '' --appendonly no --daemonize no
)
echo "redis-server has ended"
poweroff -f
