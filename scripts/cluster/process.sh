# shellcheck shell=bash disable=SC2154
# Part of scripts/dev-cluster: starts and ends processes, and knows which of them are ours.
#
# A component's process is recorded with its start time, which tells it from a later process that got the same pid.
# Besides, all processes of a control plane or a node (shims and containers too) live in one control group, so that
# ending the group ends exactly what was started here, whatever became of the records. Cgroup v1 and v2 both work.

# started_at PID: its start time in ticks since boot; fails for a process that is gone or a zombie.
started_at() {
    local stat fields
    read -r stat 2>/dev/null <"/proc/$1/stat" || return 1
    read -ra fields <<<"${stat##*) }"
    [ "${fields[0]}" != Z ] || return 1
    echo "${fields[19]}"
}

alive() {
    local pid at
    [ -f "$P/run/$1.pid" ] || return 1
    read -r pid at <"$P/run/$1.pid"
    [ "$(started_at "$pid")" = "$at" ]
}

# spawn NAME GROUP COMMAND...: a daemon that outlives this script, in a control group.
spawn() {
    local name=$1 group=$2 pid
    shift 2
    make_group "$group"
    (
        echo "$BASHPID" >"$(tracking_mount)/$group/cgroup.procs"
        unset http_proxy https_proxy all_proxy HTTP_PROXY HTTPS_PROXY ALL_PROXY
        exec setsid "$@"
    ) >>"$P/log/$name.log" 2>&1 </dev/null 9>&- &
    pid=$!
    echo "$pid $(started_at $pid)" >"$P/run/$name.pid"
}

# end NAME: asks the process to end, and after a second makes it, for an apiserver would wait a minute for its watchers;
# `end NAME now` does not ask.
end() {
    local pid _
    if alive "$1"; then
        read -r pid _ <"$P/run/$1.pid"
        if [ "${2:-}" != now ]; then
            kill "$pid" 2>/dev/null || true
            for _ in {1..20}; do
                alive "$1" || break
                sleep 0.05
            done
        fi
        if alive "$1"; then kill -9 "$pid" 2>/dev/null || true; fi
        while alive "$1"; do sleep 0.02; done
    fi
    rm -f "$P/run/$1.pid"
}

# wait_for WHAT COMMAND...: up to two minutes, for a machine that compiles at the same time.
wait_for() {
    local what=$1 _
    shift
    for _ in {1..1200}; do
        "$@" >/dev/null 2>&1 && return 0
        sleep 0.1
    done
    die "$what did not come up" "see $P/log"
}

group_mounts() { awk '$3 == "cgroup" || ($3 == "cgroup2" && $2 == "/sys/fs/cgroup") { print $2 }' /proc/mounts; }

# tracking_mount: the one hierarchy whose groups tell which processes are ours.
tracking_mount() {
    awk '($3 == "cgroup" && $4 ~ /(^|,)pids(,|$)/) || ($3 == "cgroup2" && $2 == "/sys/fs/cgroup") { print $2; exit }' /proc/mounts
}

# make_group PATH: in every hierarchy, with every controller that kubelet wants to find there.
make_group() {
    local mount dir level file
    for mount in $(group_mounts); do
        [ ! -d "$mount/$1" ] || continue
        dir=$mount
        for level in ${1//\// }; do
            if [ -f "$dir/cgroup.subtree_control" ]; then
                for file in cpu cpuset memory pids hugetlb; do
                    echo "+$file" 2>/dev/null >"$dir/cgroup.subtree_control" || true
                done
            fi
            mkdir -p "$dir/$level"
            if [ ! -f "$mount/cgroup.controllers" ] && [ -f "$dir/cpuset.cpus" ]; then
                for file in cpuset.cpus cpuset.mems; do
                    [ -n "$(cat "$dir/$level/$file")" ] || cat "$dir/$file" >"$dir/$level/$file"
                done
            fi
            dir=$dir/$level
        done
    done
}

# end_group PATH: ends every process in the group and below, then removes the groups.
end_group() {
    local mount pids _
    for _ in {1..100}; do
        # A process of another pid namespace reads as 0, which kill would take for our own process group.
        mapfile -t pids < <(find "$(tracking_mount)/$1" -name cgroup.procs -exec cat {} + 2>/dev/null | sed "/^0$/d" || true)
        [ ${#pids[@]} -gt 0 ] || break
        kill -9 "${pids[@]}" 2>/dev/null || true
        sleep 0.05
    done
    while read -r mount; do
        [ ! -d "$mount/$1" ] || find "$mount/$1" -depth -type d -exec rmdir {} + 2>/dev/null || true
        rmdir "$mount/pipekeeper" 2>/dev/null || true
    done < <(awk '$3 ~ /^cgroup2?$/ { print $2 }' /proc/mounts)
}
