#!/usr/bin/env bash
# Hosts for running `ray up` for real on one machine: each is a network namespace with an address, processes, a home
# and temporary folders of its own, and an sshd. All other files are this machine's.
# Needs root, iproute2, openssh-server and rsync.
#
#   hosts.sh up N           N hosts, 10.78.0.11, 10.78.0.12, ...; the key to log in as root is $HOSTS_STATE/key
#   hosts.sh run K COMMAND  runs COMMAND on host K (11, 12, ...)
#   hosts.sh cut K          takes host K off the network; `hosts.sh join K` brings it back
#   hosts.sh down           ends the hosts and all that runs on them
#.
set -Eeuo pipefail
state=${HOSTS_STATE:-/tmp/raysweep-hosts}
key=$state/key
home=$state/home
options=(-i "$key" -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR)

start_host() { # $1: its number
    ip netns add "rshost$1"
    ip link add "rsveth$1" type veth peer name eth0 netns "rshost$1"
    ip link set "rsveth$1" master rsbridge up
    ip -n "rshost$1" addr add "10.78.0.$1/24" dev eth0
    ip -n "rshost$1" link set eth0 up
    ip -n "rshost$1" link set lo up
    setsid ip netns exec "rshost$1" unshare --mount --pid --fork --mount-proc --kill-child bash -c "
        for folder in /tmp/ray /dev/shm $home; do mkdir -p \$folder && mount -t tmpfs tmpfs \$folder; done
        mount --bind $state/passwd /etc/passwd
        touch $home/.bashrc
        exec /usr/sbin/sshd -D -o AuthorizedKeysFile=$key.pub -o StrictModes=no -o PermitRootLogin=yes -o PidFile=none
    " </dev/null >"$state/host$1.log" 2>&1 &
}

wait_for_host() { # $1: its number
    for _ in $(seq 100); do
        ssh "${options[@]}" -o ConnectTimeout=1 "root@10.78.0.$1" true 2>/dev/null && return
        sleep 0.1
    done
    echo "hosts.sh: host $1 does not answer; see $state/host$1.log" >&2
    return 1
}

up() { # $1: how many
    trap down ERR
    down # what a test that was killed may have left
    mkdir -p "$home" /run/sshd
    ssh-keygen -A >/dev/null
    [[ -f $key ]] || ssh-keygen -q -t ed25519 -N '' -f "$key"
    sed "s|^\(root:[^:]*:[^:]*:[^:]*:[^:]*\):[^:]*:.*|\1:$home:/bin/bash|" /etc/passwd >"$state/passwd"
    ip link add rsbridge type bridge
    ip addr add 10.78.0.1/24 dev rsbridge
    ip link set rsbridge up
    for number in $(seq 11 $((10 + $1))); do start_host "$number"; done
    for number in $(seq 11 $((10 + $1))); do wait_for_host "$number"; done
    trap - ERR
}

down() {
    for host in $(ip netns list | grep -o 'rshost[0-9]*'); do
        ip netns pids "$host" | xargs --no-run-if-empty kill -KILL || true
        ip netns del "$host" || true
    done
    for link in $(ip -o link | grep -o 'rsveth[0-9]*\|rsbridge' | sort -u); do ip link del "$link" 2>/dev/null || true; done
}

case ${1:-} in
    up) up "$2" ;;
    down) down ;;
    run) host=$2 && shift 2 && ssh "${options[@]}" "root@10.78.0.$host" "$@" ;;
    cut) ip link set "rsveth$2" down ;;
    join) ip link set "rsveth$2" up ;;
    *) sed -n '2,/^#\.$/{/^#\.$/d;s/^# \{0,1\}//p}' "$0" && exit 2 ;;
esac
