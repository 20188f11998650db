# For guests in which livepatches do harm: the log's reader at work, and steps with their facts.

# watch: sets the reader to work. What it says is kept with the uptime in milliseconds.
watch() {
    sed "s/BOOT/$(cat /proc/sys/kernel/random/boot_id)/" /lab/patches.json >/tmp/patches.json
    : >/tmp/said
    (
        tuxtape log parse --json --follow /dev/kmsg --patches /tmp/patches.json 2>&1 |
            while read -r line; do
                clock
                echo "$now $line" >>/tmp/said
            done
    ) &
    # It is at work once it has said what it holds of the livepatches.
    tries=0
    until [ -s /tmp/said ] || [ $tries -ge 600 ]; do
        sleep 0.1
        tries=$((tries + 1))
    done
    clock
    mark "clock $now"
}

# take NAME: loads a livepatch and waits until it is in force.
take() {
    insmod "/lab/livepatch/$1.ko" || { fact "take.$1" refused; return 1; }
    tries=0
    until [ "$(cat "/sys/kernel/livepatch/$1/transition" 2>&1)" = 0 ] || [ $tries -ge 600 ]; do
        sleep 0.1
        tries=$((tries + 1))
    done
    fact "take.$1" "$(cat "/sys/kernel/livepatch/$1/transition" 2>&1)"
}

# accused NAME: the reader holds it to be suspect or guilty.
accused() {
    grep '"kind":"verdict"' /tmp/said | grep "\"module\":\"$1\"" |
        grep -qE '"verdict":"(guilty|suspect)"'
}

# harm NAME COMMAND: makes it do harm and waits for the reader to accuse it, or to say nothing new of
# it for a while after a report.
harm() {
    fact harm "$1"
    reports=$(grep -c '"kind":"report"' /tmp/said)
    sh -c "$2" >/tmp/harm 2>&1 </dev/null &
    clock
    limit=$((now + 60000))
    until accused "$1" || [ "$now" -ge $limit ]; do
        sleep 0.1
        clock
        [ "$(grep -c '"kind":"report"' /tmp/said)" = "$reports" ] || [ $limit -lt $((now + 3000)) ] ||
            limit=$((now + 3000))
    done
    # What else the report leads to is said by then.
    sleep 1
}

# off NAME SECONDS: tries to take it off; fact off.NAME is gone or open.
off() {
    echo 0 >"/sys/kernel/livepatch/$1/enabled"
    clock
    limit=$((now + $2 * 1000))
    while [ -d "/sys/kernel/livepatch/$1" ] && [ "$now" -lt $limit ]; do
        sleep 0.1
        clock
    done
    if [ -d "/sys/kernel/livepatch/$1" ]; then fact "off.$1" open; else fact "off.$1" gone; fi
}

# finish: all that the reader said.
finish() {
    sleep 1
    data said </tmp/said
}
