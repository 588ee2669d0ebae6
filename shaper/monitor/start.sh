#!/bin/sh
# What a worker runs for each task where the environment travels: client.py under the Python of environment.tar.gz.
#
#     /bin/sh start.sh worker|task KEY TAG IDLE_S
#
# For `worker` it is unpacked once, beside the directories of the tasks, by whoever comes first; the others wait. Where it
# lies is written down when it is whole, so that no half of one is ever used. For `task` it is unpacked in the task's own
# directory. Needs sh, tar, gzip and the usual file commands. Exit code 72: the environment could not be unpacked or does
# not start, standard output says why.
mode=$1
key=$2
shift 2
set -f

fail() {
    # On one line, and not more than a line.
    printf '%.500s\n' "$(echo $*)"
    exit 72
}

unpack() {
    rm -rf "$1"
    said=$(mkdir "$1" 2>&1) || fail "$said"
    said=$(tar -xzof environment.tar.gz -C "$1" 2>&1) || fail "$said"
    # conda-pack leaves this to write down the place; it is made for it.
    if [ -e "$1/bin/conda-unpack" ]; then
        said=$("$1/bin/python3" "$1/bin/conda-unpack" 2>&1) || fail "conda-unpack: $said"
    fi
    said=$("$1/bin/python3" -I -S -c '' 2>&1) || fail "its Python does not start: $said"
}

if [ "$mode" = task ]; then
    environment=$PWD/environment
    unpack "$environment"
else
    known=${PWD%/*}/shaper-environment-$key
    lock=$known.lock
    failed=0
    while ! read -r environment 2>/dev/null <"$known"; do
        # The worker has gone, and its directories with it: nobody waits for this.
        [ -d "$PWD" ] || exit 72
        # A link is made with all that it says, or not at all.
        if said=$(ln -s "$$ $PWD" "$lock" 2>&1); then
            trap 'rm -rf "$known.$$" "$lock"' EXIT
            if [ ! -e "$known" ]; then
                unpack "$known.$$"
                said=$( (echo "$known.$$" >"$known.new" && mv "$known.new" "$known") 2>&1) || fail "$said"
            fi
            trap - EXIT
            rm -f "$lock"
        elif owner=$(readlink "$lock"); then
            failed=0
            pid=${owner%% *}
            if kill -0 "$pid" 2>/dev/null && [ -d "${owner#* }" ]; then
                sleep 0.1 2>/dev/null || sleep 1
            elif mv "$lock" "$lock.$$" 2>/dev/null; then
                # Its task was ended in the middle. Should this be the lock of another who came in between, both unpack.
                [ "$(readlink "$lock.$$")" != "$owner" ] || rm -rf "$known.$pid"
                rm -f "$lock.$$"
            fi
        else
            # Another has just removed it; or there is no room for one.
            failed=$((failed + 1))
            [ "$failed" -lt 20 ] || fail "$said"
            sleep 0.1 2>/dev/null || sleep 1
        fi
    done
    export SHAPER_ENVIRONMENT="$known"
fi
unset PYTHONHOME PYTHONPATH
export PATH="$environment/bin:$PATH" PYTHONNOUSERSITE=1
if [ -d "$environment/conda-meta" ]; then
    export CONDA_PREFIX="$environment"
fi
exec "$environment/bin/python3" -I -S client.py "$@"
