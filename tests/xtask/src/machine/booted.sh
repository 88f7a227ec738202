# Makes the world of process 1 around the root `$1`, whose changes lie in `$2`, and becomes systemd.
#
# We are already process 1 of new namespaces of every kind but the user's. $3 is the terminal that
# shall be the console, and $4 the directory of the host that is seen as /run/host.
set -eu
lower=$1 disk=$2 console=$3 host=$4

mount --make-rprivate /
mount -t overlay -o "lowerdir=$lower,upperdir=$disk/upper,workdir=$disk/work" machine "$disk/root"
cd "$disk/root"
# Pods lay overlays out beneath /var and /tmp, which no overlay would carry.
mount --bind "$disk/var" var
mount -t tmpfs -o mode=1777 tmpfs tmp
mount -t tmpfs -o mode=755 tmpfs run
mkdir run/host
mount --bind "$host" run/host

# The kernel is the host's: nothing of it may be set here but what is the network namespace's.
mount -t proc proc proc
# The kernel lets a user namespace mount /proc only where one is in sight that nothing covers.
mkdir run/proc
mount -t proc proc run/proc
mount --bind proc/sys proc/sys
mount --bind proc/sys/net proc/sys/net
mount -o remount,bind,ro proc/sys
mount --bind "$host/boot_id" proc/sys/kernel/random/boot_id
mount -t sysfs -o ro sysfs sys
mount -t cgroup2 cgroup2 sys/fs/cgroup

mount -t tmpfs -o mode=755 tmpfs dev
node() { mknod -m 666 "dev/$1" c "$2" "$3"; }
node null 1 3
node zero 1 5
node full 1 7
node random 1 8
node urandom 1 9
node tty 5 0
mkdir dev/pts dev/shm dev/mqueue dev/net
node fuse 10 229
node net/tun 10 200
mount -t devpts -o newinstance,ptmxmode=666,mode=620,gid=5 devpts dev/pts
mount -t tmpfs -o mode=1777 tmpfs dev/shm
ln -s pts/ptmx dev/ptmx
ln -s /proc/self/fd dev/fd
ln -s /proc/self/fd/0 dev/stdin
ln -s /proc/self/fd/1 dev/stdout
ln -s /proc/self/fd/2 dev/stderr
: >dev/console
mount --bind "$console" dev/console

pivot_root . mnt
umount -l /mnt
# As the root of every machine is: without it, credentials of services would be empty.
mount --make-rshared /
exec env -i container=pod-machine PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
    NOTIFY_SOCKET=/run/host/notify /lib/systemd/systemd </dev/console >/dev/console 2>&1
