#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# First process of a test guest. The kernel hands the words key=value of its command line over as
# environment: guest_name, guest_address, host_nqn, host_id, checkout, python, and modules_folder
# (QEMU, where this runs in an initramfs) or writable_folder and agent_address (user-mode Linux,
# where this runs on the machine's own root, read-only).
busybox=/bin/busybox
root=/mnt/root
$busybox mount -t tmpfs -o mode=755 tmpfs /mnt
$busybox mkdir /mnt/machine /mnt/upper /mnt/work $root

# The machine's own root, read-only, below a file system in memory that takes all writes.
if [ -n "$modules_folder" ]; then
    for module in /modules/*.ko; do
        $busybox insmod "$module" || echo "guest_init: cannot load $module"
    done
    options=trans=virtio,version=9p2000.L,msize=512000,cache=loose
    $busybox mount -t 9p -o "ro,$options" machine /mnt/machine
else
    $busybox mount -t hostfs -o ro,/ machine /mnt/machine
fi
$busybox mount -t overlay -o lowerdir=/mnt/machine,upperdir=/mnt/upper,workdir=/mnt/work \
    overlay $root || exec $busybox poweroff -f

cd $root
$busybox mount -t proc proc proc
$busybox mount -t sysfs sysfs sys
$busybox mount -t devtmpfs devtmpfs dev
# udev makes dev/disk/by-id elsewhere; os-brick links encrypted volumes there.
$busybox mkdir -p dev/shm dev/pts dev/disk/by-id run tmp lib/modules etc/nvme etc/discovery-client \
    var/lib/discovery-client
for folder in run dev/shm etc/nvme etc/discovery-client; do
    $busybox mount -t tmpfs tmpfs $root/$folder
done
$busybox chmod 1777 tmp dev/shm
$busybox mount -t devpts devpts dev/pts
if [ -n "$modules_folder" ]; then
    $busybox mount --bind "$root$modules_folder" lib/modules
fi
if [ -n "$writable_folder" ]; then
    $busybox mount -t hostfs -o "$writable_folder" writable "$root$writable_folder"
fi
$busybox mkdir -p run/lock etc/discovery-client/discovery.d

echo "$host_nqn" >etc/nvme/hostnqn
echo "$host_id" >etc/nvme/hostid
$busybox hostname "$guest_name"
$busybox rm -f etc/hostname etc/hosts etc/resolv.conf etc/mtab
echo "$guest_name" >etc/hostname
echo "127.0.0.1 localhost $guest_name" >etc/hosts
: >etc/resolv.conf
$busybox ln -s /proc/self/mounts etc/mtab

[ -e sys/class/net/eth0 ] || $busybox ip link set vec0 name eth0
$busybox ip link set lo up
$busybox ip address add "$guest_address" dev eth0
$busybox ip link set eth0 up

# This shell stays the first process: it reaps orphans, and without its agent the guest ends.
export HOME=/root LANG=C.UTF-8 PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
export PYTHONDONTWRITEBYTECODE=1
if [ -n "$modules_folder" ]; then enter=switch_root; else enter=chroot; fi
exec $busybox $enter $root /bin/sh -c '
    echo 1 >/proc/sys/kernel/sysrq
    cd "$checkout"
    "$python" -m testbed.guest_agent ${agent_address:+--listen "$agent_address"} \
        </dev/null >/dev/console 2>&1
    echo "guest_init: agent ended with $?" >/dev/console
    echo o >/proc/sysrq-trigger
    while :; do sleep 1; done'
