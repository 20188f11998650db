# One livepatch through its whole life. TRANSITION_MS and SCRIPT_SECONDS are set before.

# stage INDEX before|during|after: the given script, with its stage in TUXTAPE_STAGE.
stage() {
    fact "module.$1.phase" "script-$2"
    [ -e /lab/test-script ] || return 0
    clock
    began=$now
    TUXTAPE_STAGE=$2 TUXTAPE_MODULE=$name timeout -s KILL "$SCRIPT_SECONDS" sh /lab/test-script >/tmp/stage 2>&1 </dev/null
    code=$?
    clock
    fact "module.$1.script.$2.exit" "$code"
    fact "module.$1.script.$2.ms" "$((now - began))"
    data "module.$1.script.$2.output" </tmp/stage
}

# settled: waits for the end of the transition. 1 = not in time, 2 = there is no such livepatch.
settled() {
    clock
    limit=$((now + TRANSITION_MS))
    while [ -d "$folder" ]; do
        transition=
        read -r transition 2>/dev/null <"$folder/transition"
        [ "$transition" = 0 ] && return 0
        clock
        [ "$now" -ge "$limit" ] && return 1
        sleep 0.02
    done
    return 2
}

# gone: waits for the livepatch's folder to go.
gone() {
    clock
    limit=$((now + TRANSITION_MS))
    while [ -d "$folder" ]; do
        clock
        [ "$now" -ge "$limit" ] && return 1
        sleep 0.02
    done
}

# try_livepatch INDEX NAME: 0 = all steps done.
try_livepatch() {
    name=$2
    folder=/sys/kernel/livepatch/$name
    mark "module.$1.begin"
    stage "$1" before
    fact "module.$1.phase" load
    clock
    began=$now
    insmod "/lab/livepatch/$1.ko" >/tmp/insmod 2>&1
    code=$?
    fact "module.$1.insmod" "$code"
    if [ "$code" != 0 ]; then
        data "module.$1.refused" </tmp/insmod
        return 1
    fi
    fact "module.$1.phase" transition
    settled
    case $? in
    1) fact "module.$1.stalled" "$TRANSITION_MS"; return 1 ;;
    2) fact "module.$1.absent" "$folder"; return 1 ;;
    esac
    clock
    fact "module.$1.transition" "$((now - began))"
    for object in "$folder"/*/; do
        [ -d "$object" ] || continue
        object=${object%/}
        patched=-
        read -r patched 2>/dev/null <"$object/patched"
        fact "module.$1.object" "$patched ${object##*/}"
        for function in "$object"/*/; do
            [ -d "$function" ] || continue
            function=${function%/}
            fact "module.$1.function" "${object##*/} ${function##*/}"
        done
    done
    stage "$1" during
    fact "module.$1.phase" disable
    clock
    began=$now
    if ! echo 0 2>/tmp/disable >"$folder/enabled"; then
        data "module.$1.not-disabled" </tmp/disable
        return 1
    fi
    if ! gone; then
        fact "module.$1.stalled-out" "$TRANSITION_MS"
        return 1
    fi
    fact "module.$1.phase" unload
    # The kernel drops its last reference a moment after the folder is gone.
    tries=0
    until rmmod "$name" >/tmp/rmmod 2>&1; do
        tries=$((tries + 1))
        if [ $tries -ge 100 ]; then
            data "module.$1.not-unloaded" </tmp/rmmod
            return 1
        fi
        sleep 0.05
    done
    clock
    fact "module.$1.unloaded" "$((now - began))"
    stage "$1" after
}

# try_late INDEX NAME OBJECT…: the other order, the livepatch before the modules it patches, which
# are given in the order they can be loaded in. One in use cannot be taken out: then it is left.
try_late() {
    index=$1 name=$2
    folder=/sys/kernel/livepatch/$name
    shift 2
    fact "module.$index.phase" late
    backwards=
    for object in "$@"; do backwards="$object $backwards"; done
    for object in $backwards; do
        if ! rmmod "$object" >/tmp/late 2>&1; then
            data "module.$index.late-skipped" </tmp/late
            for object in "$@"; do
                [ -d "/sys/module/$object" ] || insmod "/lab/modules/$object.ko"
            done
            return 0
        fi
    done
    if ! insmod "/lab/livepatch/$index.ko" >/tmp/late 2>&1; then
        data "module.$index.late-failed" </tmp/late
        return 1
    fi
    if ! settled; then
        fact "module.$index.late-failed" "transition not complete"
        return 1
    fi
    for object in "$@"; do
        if ! insmod "/lab/modules/$object.ko" >/tmp/late 2>&1; then
            data "module.$index.late-failed" </tmp/late
            return 1
        fi
        patched=-
        read -r patched 2>/dev/null <"$folder/$object/patched"
        if [ "$patched" = 0 ]; then
            fact "module.$index.late-failed" "$object was loaded but not patched"
            return 1
        fi
    done
    if ! echo 0 >"$folder/enabled" || ! gone; then
        fact "module.$index.late-failed" "could not be disabled again"
        return 1
    fi
    tries=0
    until rmmod "$name" >/tmp/late 2>&1; do
        tries=$((tries + 1))
        if [ $tries -ge 100 ]; then
            data "module.$index.late-failed" </tmp/late
            return 1
        fi
        sleep 0.05
    done
    fact "module.$index.late" patched
}
