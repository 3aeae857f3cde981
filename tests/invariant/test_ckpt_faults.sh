#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# R5, R9 at small size: a save is killed before each of its system calls, and each of them fails once (disk full, input/output error, no
# more descriptors). Afterwards a sound checkpoint loads, always; and an fsync that failed is not tried again.
. "$(dirname "$0")/../lib.sh" "$1"
costly_under_sanitizer

helper=$build/tests/helper_ckpt
[ -x "$helper" ] || fail "there is no $helper"
command -v strace >/dev/null || skip "no strace"
strace -qq -o /dev/null -e trace=fsync -e inject=fsync:error=EIO true 2>/dev/null || skip "strace cannot trace here"
export ASAN_OPTIONS=${ASAN_OPTIONS:-}:detect_leaks=0 # the leak checker cannot run under a tracer

"$helper" save start 1 1 || fail "the first save"
calls="mkdir,openat,write,fsync,close,rename,renameat2,unlink,rmdir,unlinkat"

# inject SYSCALL WHAT: 1, 2, 3 … until a save ends without meeting the fault.
inject() {
    local call=$1 what=$2 k code step
    for ((k = 1; k < 2000; k++)); do
        rm -rf out
        cp -r start out
        code=0
        # The outer redirection swallows the shell's own "Killed".
        { strace -qq -y -o trace -e trace="$calls" -e inject="$call:$what:when=$k" "$helper" save out 2 3 > log 2>&1 || code=$?; } 2>/dev/null
        step=$("$helper" check out 2>&1) || fail "$call $what at $k (save left with $code): $step"
        grep -q -E 'INJECTED|killed by SIGKILL' trace || break
        case $code in
        0 | 1 | 127 | 137) ;; # 127: the fault met the dynamic loader
        *) cat log >&2; fail "$call $what at $k: the save left with $code" ;;
        esac
        [ "$code" != 0 ] || [ "$step" = 3 ] || fail "$call $what at $k: the save said it was done, but step $step loads"
        if [ "$call" = fsync ] && [ "$code" != 137 ]; then
            failed=$(sed -n 's/^fsync([0-9]*<\(.*\)>) .*(INJECTED)$/\1/p' trace)
            ! sed '1,/INJECTED/d' trace | grep fsync | grep -q -F "<$failed>" || fail "fsync of $failed was tried again"
            [ "$code" = 1 ] || fail "the failed fsync of $failed went unnoticed"
        fi
        # Going on afterwards works, and leaves nothing behind.
        "$helper" save out 2 3 > log 2>&1 || { cat log >&2; fail "$call $what at $k: the next save failed"; }
        [ "$(ls -A out)" = checkpoint-3 ] || fail "$call $what at $k: left behind: $(ls -A out)"
    done
    [ "$code" = 0 ] && [ "$step" = 3 ] || fail "$call $what: the undisturbed save: $(cat log)"
    [ "$k" -gt 1 ] || return 0
    n_faults=$((n_faults + k - 1))
    ok "$call $what: $((k - 1)) places"
}

n_faults=0
for call in write fsync rename mkdir unlink rmdir; do
    inject $call signal=KILL
done
inject write error=ENOSPC
inject write error=EIO
inject fsync error=EIO
inject rename error=EIO
inject mkdir error=ENOSPC
if [ "$full" = 1 ]; then
    inject openat signal=KILL
    inject openat error=EMFILE
    inject close error=EIO
    inject unlink error=EIO
    inject rmdir error=EIO
fi
[ "$n_faults" -gt 100 ] || fail "only $n_faults faults were met"
ok "$n_faults faults, and a sound checkpoint after each"
