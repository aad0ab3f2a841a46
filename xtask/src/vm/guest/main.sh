# Process 1 of the guest, once the host's files are its root: sets up what a machine has, runs the
# command, passes on what it prints and reports its exit status.
here=/run/veer-vm
busybox=$here/bin/busybox
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:$here/bin
. $here/settings

b() { $busybox "$@"; }

echo $here/bin/modprobe >/proc/sys/kernel/modprobe
b mkdir -p /dev/pts /dev/shm
b mount -t devpts -o gid=5,mode=620,ptmxmode=666 devpts /dev/pts
b mount -t tmpfs -o mode=1777 shm /dev/shm
b ln -sf /proc/self/fd /dev/fd
b ln -sf fd/0 /dev/stdin
b ln -sf fd/1 /dev/stdout
b ln -sf fd/2 /dev/stderr
b mount -t bpf -o mode=700 bpf /sys/fs/bpf
b mount -t cgroup2 cgroup2 /sys/fs/cgroup
for controller in cpuset cpu io memory pids; do
    echo +$controller >/sys/fs/cgroup/cgroup.subtree_control
done
b mount -t debugfs debugfs /sys/kernel/debug
b mount -t tracefs tracefs /sys/kernel/tracing
# As systemd leaves it; `ip netns` and container engines count on it.
b mount --make-rshared /
b ip link set lo up
b hostname veer-vm

# vport<device>p<port>; the device's number depends on which one the kernel finds first.
tries=0
until set -- /dev/vport*p3 && [ -c "$1" ]; do
    tries=$((tries + 1))
    [ $tries -lt 200 ] || { echo "veer vm: no ports to the host"; b poweroff -f; }
    b sleep 0.05
done
port=${1%3}
exec 9<>${port}3

# A pipe, not the port itself: programs open /dev/stderr again, which a port refuses.
b mkfifo $here/stdout $here/stderr
{ b cat $here/stdout; printf %s "$END_MARK"; } >${port}1 9>&- &
{ b cat $here/stderr; printf %s "$END_MARK"; } >${port}2 9>&- &

# When the command takes too long, the host asks what it waits for.
while read -r _ <&9; do
    echo w >/proc/sysrq-trigger
    b ps -o pid,ppid,stat,args | b grep -v '\]$' # not the kernel's own
done >/dev/console 2>&1 &

echo booted >&9
if [ -n "$ONE_STREAM" ]; then
    b setsid /bin/sh $here/command </dev/null >$here/stdout 2>&1 9>&- &
    command=$!
    : >$here/stderr
else
    b setsid /bin/sh $here/command </dev/null >$here/stdout 2>$here/stderr 9>&- &
    command=$!
fi
wait $command
echo "exited $?" >&9
# The host ends the machine when it has read everything.
while :; do b sleep 60; done
