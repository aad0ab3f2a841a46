#!/bin/sh
# First program of the guest, in the initramfs: makes the host's files the root, under a layer in
# memory that takes what the guest writes, and goes on there with main.sh.
export PATH=/bin

give_up() {
    echo "veer vm: $*"
    poweroff -f
}

mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev

while read -r module; do
    insmod "/modules/$module" || give_up "cannot load $module"
done </boot-order

mount -t 9p -o ro,trans=virtio,version=9p2000.L,msize=512000,cache=loose host /host ||
    give_up "cannot mount the host's files"
read -r command_line </proc/cmdline
for word in $command_line; do
    case $word in veer.job=*) job=/host${word#veer.job=} ;; esac
done
. "$job/settings" || give_up "cannot read $job/settings"

mount -t tmpfs -o size=80%,mode=755 memory /memory
mkdir /memory/upper /memory/work
mount -t overlay -o lowerdir=/host,upperdir=/memory/upper,workdir=/memory/work root /root ||
    give_up "cannot put a layer over the host's files"

cd /root
mkdir -p proc sys dev run tmp
chmod 1777 tmp
mount -t tmpfs -o mode=755 run run
mkdir -p run/lock run/netns run/veer-vm/bin
cp /main.sh "$job/settings" "$job/command" run/veer-vm/
cp /bin/busybox run/veer-vm/bin/
for program in modprobe insmod rmmod lsmod; do
    ln -s busybox run/veer-vm/bin/$program
done

release=$(uname -r)
mkdir -p "lib/modules/$release"
mount --bind "/host$MODULES" "lib/modules/$release"
# The host's modprobe, if there is one, wants an index in a binary format that we do not write.
ln -sf /run/veer-vm/bin/modprobe sbin/modprobe

mount --move /proc proc
mount --move /sys sys
mount --move /dev dev
exec switch_root /root /run/veer-vm/bin/busybox sh /run/veer-vm/main.sh
