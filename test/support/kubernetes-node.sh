#!/bin/sh
# The first process of a node: in network, mount and process namespaces of its own, with directories of its own where a node keeps
# its state. When it ends, the kernel ends everything in the node, and with it mounts, interfaces and containers.
#   unshare --mount --net --pid --fork --mount-proc --kill-child kubernetes-node.sh DIR
set -eu
dir=$1

mount -t overlay -o "lowerdir=/etc,upperdir=$dir/etc,workdir=$dir/etc-work" etc /etc
mount --bind "$dir/lib" /var/lib
mount --bind "$dir/log" /var/log
mount -t tmpfs run /run
ip link set lo up
echo 1 >/proc/sys/net/ipv4/ip_forward
: >"$dir/ready"

# Waits for what lost its parent, so that no zombies stay.
while :; do
  sleep 1 &
  wait
done
