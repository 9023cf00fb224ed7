#!/usr/bin/env bash
# `make down`: stops what `make up` started, and leaves no process, mount, cgroup or port behind. The data stays.
set -euo pipefail
. "$(dirname "$0")/lib.sh"

data=$root/.tutti/dev
# Agents that were started beside it, as the README does, have their folders here too.
all=$root/.tutti/
pid_file=$data/up.pid
# Longer than the drain of what it serves (30 s by default) and the end of its instances take.
stop_seconds=45

# Whether a process is a tutti whose command line names a folder of ours: `tutti dev`, an agent, or a shim, which
# outlives both where they do not stop it. (The program may have been built again since: then the kernel adds a word to
# its name.)
ours() {
    local program
    program=$(readlink "/proc/$1/exe" 2>/dev/null) || return 1
    program=${program% (deleted)}
    [ "${program##*/}" = tutti ] && tr '\0' ' ' 2>/dev/null <"/proc/$1/cmdline" | grep -qF -- "$all"
}

all_ours() {
    local folder pid
    for folder in /proc/[0-9]*; do
        pid=${folder#/proc/}
        ours "$pid" && echo "$pid"
    done
    return 0
}

# wait_gone SECONDS PID... : whether all have ended.
wait_gone() {
    local limit=$(($1 * 10)) waited=0 pid left
    shift
    while :; do
        left=0
        for pid in "$@"; do
            [ -d "/proc/$pid" ] && ! grep -qs '^State:.*Z' "/proc/$pid/status" && left=1
        done
        [ "$left" -eq 0 ] && return 0
        [ "$waited" -ge "$limit" ] && return 1
        sleep 0.1
        waited=$((waited + 1))
    done
}

# The processes below one, at any depth.
below() {
    local child
    for child in $(cat "/proc/$1/task/"*/children 2>/dev/null); do
        echo "$child"
        below "$child"
    done
}

stopped=no
pid=$(cat "$pid_file" 2>/dev/null || true)
if [ -n "$pid" ] && ours "$pid"; then
    stopped=yes
    kill -TERM "$pid" 2>/dev/null || true
    wait_gone "$stop_seconds" "$pid" || say "tutti dev did not stop in $stop_seconds s; ending it"
fi

# Whatever is left of it.
left=()
while read -r pid; do
    [ -n "$pid" ] && left+=("$pid") && mapfile -t -O "${#left[@]}" left < <(below "$pid")
done < <(all_ours)
if [ ${#left[@]} -gt 0 ]; then
    stopped=yes
    kill -KILL "${left[@]}" 2>/dev/null || true
    wait_gone 10 "${left[@]}" || die "still there: ${left[*]}"
fi
rm -f "$pid_file" "$data/up.ready"

# Mounts below the data folder, deepest first.
awk -v data="$all" 'index($5, data) == 1 { print $5 }' /proc/self/mountinfo | sort -r | while read -r mount; do
    umount "$mount" 2>/dev/null || umount -l "$mount" || say "could not unmount $mount"
done

# The control groups of this cloud's instances, wherever the hierarchies are mounted: `tutti/INSTANCE`, where the instance
# has a folder in our data. Another cloud's groups are left alone.
find /sys/fs/cgroup -type d -path '*/tutti/*' -printf '%d %p\n' 2>/dev/null | sort -rn | cut -d ' ' -f 2- |
    while read -r group; do
        instance=${group##*/tutti/}
        if find "$all" -type d -name "${instance%%/*}" -print -quit | grep -q .; then
            rmdir "$group" 2>/dev/null || say "could not remove the control group $group"
        fi
    done
# The common parent, if nobody is left in it.
find /sys/fs/cgroup -depth -type d -name tutti -exec rmdir {} + 2>/dev/null || true

if [ "$stopped" = yes ]; then say "stopped"; else say "nothing was running"; fi
