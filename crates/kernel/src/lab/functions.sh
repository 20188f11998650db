# For scripts that run in a boot lab guest.
exec 8>/dev/ttyS1

# fact NAME VALUE: one fact, the value on one line.
fact() { printf '@%s=%s\n' "$1" "$2" >&8; }

# data NAME <FILE: one fact of any bytes, at most 256 KiB.
data() {
    printf '@%s:' "$1" >&8
    head -c 262144 | base64 -w 0 >&8
    printf '\n' >&8
}

# mark TEXT: a line in the kernel's log; a user's, by its facility.
mark() { echo "tuxtape-lab: $*" >/dev/kmsg; }

# run NAME COMMAND…: facts NAME.exit and NAME.output; stopped after $LIMIT seconds (120).
run() {
    run_name=$1
    shift
    timeout -s KILL "${LIMIT:-120}" "$@" >/tmp/run.output 2>&1 </dev/null
    run_code=$?
    fact "$run_name.exit" "$run_code"
    data "$run_name.output" </tmp/run.output
    return "$run_code"
}

# clock: sets $now to milliseconds since boot.
clock() {
    read -r now rest </proc/uptime
    now=$((${now%.*}${now#*.} * 10))
}

# kept: moves what the kernel left as it died out to the host, each file a fact kept/NAME.
kept() {
    mkdir -p /sys/fs/pstore
    grep -q ' /sys/fs/pstore ' /proc/mounts || mount -t pstore pstore /sys/fs/pstore
    for kept_file in /sys/fs/pstore/*; do
        [ -e "$kept_file" ] || continue
        data "kept/${kept_file##*/}" <"$kept_file"
        rm "$kept_file"
    done
}
