#!/bin/busybox sh
# First process of a boot lab guest. ttyS0: the kernel's console. ttyS1: facts, one a line.
# ttyS2: the kernel's log as /dev/kmsg records, from the first on, streamed so that a crash keeps them.
/bin/busybox mkdir -p /proc /sys /dev /tmp /run /etc /root
/bin/busybox mount -t proc proc /proc
/bin/busybox mount -t sysfs sysfs /sys
/bin/busybox mount -t devtmpfs devtmpfs /dev
/bin/busybox mount -t tmpfs tmpfs /tmp
/bin/busybox --install -s /bin
export PATH=/bin:/sbin:/usr/bin:/usr/sbin HOME=/root TERM=dumb
for port in /dev/ttyS1 /dev/ttyS2; do stty -F $port raw -echo; done
# One descriptor for the whole run: opened again, /dev/kmsg would begin at the first record again. A
# read that fails because records were overwritten ends dd; the next one goes on behind the gap.
exec 9</dev/kmsg
while :; do dd bs=8192 of=/dev/ttyS2 2>/dev/null <&9; done &
exec 9<&-
. /lab/functions
mark boot
fact lab.release "$(uname -r)"
while read -r name; do
    if insmod "/lab/modules/$name.ko" >/tmp/insmod 2>&1; then
        fact "lab.module.$name" loaded
    else
        data "lab.module.$name.failed" </tmp/insmod
    fi
done </lab/modules.list
if [ -e /lab/network ]; then
    ip link set lo up
    tries=0
    until [ -e /sys/class/net/eth0 ] || [ $tries -ge 50 ]; do sleep 0.1; tries=$((tries + 1)); done
    ip link set eth0 up
    ip addr add 10.0.2.15/24 dev eth0
    ip route add default via 10.0.2.2
    echo nameserver 10.0.2.3 >/etc/resolv.conf
    fact lab.network "$(cat /sys/class/net/eth0/operstate 2>&1)"
fi
sh /lab/main >/dev/ttyS1 2>&1 </dev/null
code=$?
mark end
fact lab.end "$code"
# The host stops the machine once it has read the log to its end.
sleep 40
poweroff -f
