#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Rule 15: what was never seen is tried in a child process; crash, hang and exit put it in quarantine, by its digest, with the reason, until
# `plugins release`; what came through is not tried again; what comes with the program never is.
. "$(dirname "$0")/../lib.sh" "$1"
. "$src/tests/abi/acme.sh"

export XDG_STATE_HOME=$work/state DIAPASON_PLUGINS=$work/acme
ledger=$work/state/diapason/plugins
acme acme good "-DCOUNT_FILE=\"$work/good\""
acme acme init -DINIT_CRASHES "-DCOUNT_FILE=\"$work/init\""
acme acme leaves -DINIT_LEAVES
acme acme describe -DDESCRIBE_CRASHES
acme acme constructor -DCONSTRUCTOR_CRASHES "-DCOUNT_FILE=\"$work/constructor\""
acme acme destructor -DDESTRUCTOR_CRASHES
acme acme refuses -DINIT_FAILS
crash='(crashed \\(SIGSEGV\\)|ended the process \\(exit code 1\\))' # ASan turns the one into the other
loads() { shown "$dia" com.acme.$1 '.loaded and (.quarantined | not)'; }
quarantined() { shown "$dia" com.acme.$1 "(.loaded | not) and .quarantined and (.reason | test (\"in quarantine.*$2.*plugins release com.acme.$1 \"))"; }
runs() { [ "$(stat -c %s "$work/$1")" = "$2" ] || fail "$1 was loaded by $(stat -c %s "$work/$1") processes, expected $2"; }

run 0 "$dia" plugins list
cp out first
grep -q '^com.acme.good ' first || fail "the good plugin is not listed"
# (cuda's, where it was built and there is no driver, is another matter)
[ "$(sed -n '/ refused:$/,$p' first | grep -c '^com.acme')" = 6 ] || fail "not six refused"
runs good 2
runs init 1
quarantined init "tried in a child process it $crash in init"
quarantined leaves 'ended the process \\(exit code 0\\) in init'
quarantined describe "$crash in describe of dps.objective/1"
quarantined constructor "$crash in a constructor"
quarantined destructor "$crash in a destructor"
shown "$dia" com.acme.refuses '(.quarantined | not) and (.reason | test ("init failed .DEVICE."))'
ok "crash, exit and a clean refusal"

run 0 "$dia" plugins list
runs init 1 # and not again
runs constructor 1
loads good
before=$(stat -c %s good)
run 0 "$dia" plugins list
runs good $((before + 1))
for id in com.acme.good com.acme.init; do
    [ "$(grep -c " $id" "$ledger")" = 1 ] || { cat "$ledger" >&2; fail "not one line for $id"; }
done
if grep -qE '^[a-z]+ [0-9a-f]+ dps[.]' "$ledger"; then fail "plugins that come with the program were tried"; fi
[ "$(stat -c %a "$ledger")" = 600 ] || [ "$(stat -c %a "$ledger")" = 644 ] || fail "the ledger's mode is $(stat -c %a "$ledger")"
ok "seen once is enough"

run 2 "$dia" plugins release com.acme.nobody
run 2 "$dia" plugins release com.acme.good
said "com.acme.good: is not in quarantine"
code=0
"$dia" plugins release com.acme.init > out 2> err || code=$?
[ $code != 0 ] || fail "a plugin that still crashes was released"
said "in quarantine"
quarantined init "$crash in init"
ACME_MENDED=1 run 0 "$dia" plugins release init
grep -q '^com.acme.init: released$' out || fail "release says: $(cat out)"
ACME_MENDED=1 loads init
rm acme/init.* # it would crash again, and now here
ok "released when it comes through, not before"

# Other bytes are another plugin: nothing is inherited from the one that was good.
acme acme good -DINIT_CRASHES
quarantined good "$crash in init"
acme acme good
loads good
ok "a digest is judged, not a name"

# Who ends a process that loads everything is named, not who was asked for.
acme beside exits -DINIT_EXITS
acme beside good
DIAPASON_PLUGINS=$work/beside run 3 "$dia" check good
grep -q 'ended the process while running: com.acme.exits init' out || { cat out >&2; fail "check does not say which plugin called exit"; }
ok "exit () in another plugin"

# A run goes on beside a plugin that crashes. A ledger that others can write is not believed; nonsense in it is nothing.
tiny_rows rows.jsonl 4
run 0 "$dia" score --model "$models/gemma3" --data rows.jsonl
printf 'good zzz\nquarantined\n\001\nquarantined %s com.acme.good\n' "$(sha256sum acme/good.so | cut -c 1-63)" >> "$ledger"
loads good
sed -i '/com.acme.good/d' "$ledger"
printf 'quarantined %s com.acme.good 2026-01-01 it says so\n' "$(sha256sum acme/good.so | cut -d' ' -f1)" >> "$ledger"
quarantined good 'since 2026-01-01: tried in a child process it it says so'
chmod 666 "$ledger"
loads good
rm -f "$ledger"
mkdir "$ledger" # not writable, whoever asks
quarantined describe "$crash"
loads good
rmdir "$ledger"
mkfifo "$ledger" # nobody reads it
loads good
rm "$ledger"
ok "a damaged or untrusted ledger"

# A folder of too many manifests is refused, and the program goes on without it.
mkdir crowd
(cd crowd && touch {1..1100}.plugin)
DIAPASON_PLUGINS=$work/crowd run 0 "$dia" plugins list
grep -q 'crowd: more than 1024 manifests' out || fail "the crowd is not named"
ok "a crowd"

# A hang costs its deadline once.
acme acme hangs -DINIT_HANGS
start=$(date +%s)
quarantined hangs 'did not come back within 2000 ms in init'
[ $(($(date +%s) - start)) -lt 60 ] || fail "a hang took $(($(date +%s) - start)) s"
grep -q ' com.acme.hangs ' "$ledger" || fail "the hang is not remembered"
ok "a hang"
