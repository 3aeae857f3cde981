#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# `plugins` and `doctor` as a user meets them: broken plugins cost one readable line each and nothing else.
set -euo pipefail
build=$1
top=$(cd "$(dirname "$0")/../.." && pwd)
diapason=$build/bin/diapason
work=$(mktemp -d "$build/tests/verbs.XXXXXX")
trap 'rm -rf "$work"' EXIT
export XDG_STATE_HOME=$work/state
fail() { echo "FAILED: $*"; cat "$work/out"; exit 1; }

compile() { # NAME FLAG …
    local name=$1
    shift
    cc -w -shared -fPIC -fvisibility=hidden -I "$top/core/include" "$@" -o "$work/$name.so" "$top/tests/abi/sample.c"
    printf '[plugin]\nid=com.acme.%s\nkinds=objective\nmodule=%s.so\nsha256=%s\nabi=0.1\nversion=1.0\nlicence=MIT\nsummary=sample %s\n' \
        "$name" "$name" "$(sha256sum "$work/$name.so" | cut -d' ' -f1)" "$name" > "$work/$name.plugin"
}
compile good
compile newer -DLARGER=30 -DMINOR=99
compile major -DMAJOR=9
compile magic -DMAGIC=1
compile symbol -DNO_SYMBOL
compile extra -DEXTRA_SYMBOL
compile init -DINIT_FAILS
compile absent -DINIT_ABSENT
compile slot -DNO_LOSS
compile long -DTABLE_SIZE='~(size_t)0'
compile short -DTABLE_SIZE=8
compile runpath -Wl,-rpath,/opt/x
compile digest
sed -i 's/^sha256=...../sha256=00000/' "$work/digest.plugin"
compile cut
truncate -s 3000 "$work/cut.so"
sed -i "s/^sha256=.*/sha256=$(sha256sum "$work/cut.so" | cut -d' ' -f1)/" "$work/cut.plugin"
compile needs
echo 'needs=dps.host.magic/1' >> "$work/needs.plugin"
compile link
mv "$work/link.so" "$work/link.real"
ln -s link.real "$work/link.so"
compile open
chmod 666 "$work/open.so"
compile typo
sed -i 's/^licence/license/' "$work/typo.plugin"

# ID and what its one line says, everywhere it is shown.
refused=(
    'com.acme.major|built for ABI 9.1, this host speaks'
    'com.acme.magic|does not begin with the plugin magic'
    'com.acme.symbol|exports no symbol dps_plugin_entry'
    "com.acme.extra|exports 'dps_helper'; a plugin exports dps_plugin_entry and nothing else"
    'com.acme.init|init failed (DEVICE): no such device ? today'
    'com.acme.slot|its dps.objective/1 table has no loss'
    'com.acme.long|table says 18446744073709551615 bytes'
    'com.acme.short|its dps.objective/1 table has no describe'
    'com.acme.runpath|contains a RUNPATH'
    'com.acme.digest|its SHA-256 is'
    'com.acme.cut|was the file cut?'
    'com.acme.needs|needs host interface dps.host.magic/1'
    'com.acme.link|is a symbolic link'
    'com.acme.open|writable by others (mode 0666)'
    "typo|unknown key 'license'; did you mean 'licence'?"
)
# Of the tree's own, cuda is absent where it was built and there is no driver: no alarm, as long as that is all.
n=${#refused[@]}
own=$(DIAPASON_PLUGINS='' "$diapason" plugins list --json | grep -c '"absent": true' || true)
here=$((own + 1))
DIAPASON_PLUGINS='' "$diapason" doctor > "$work/out" || fail "doctor: exit $?"
grep -q '^result  *.* 0 refused$' "$work/out" || fail "doctor refuses a plugin of our own"
export DIAPASON_PLUGINS=$work
"$diapason" plugins list > "$work/out" || fail "plugins list: exit $?"
cp "$work/out" "$work/list"
grep -q '^com.acme.good  *objective  *1.0  *sample good$' "$work/out" || fail "the good plugin is not in the table"
grep -q '^com.acme.newer  *objective ' "$work/out" || fail "the newer plugin is not in the table"
grep -q "^$n refused:\$" "$work/out" || fail "not $n refused"
grep -q "^$here not available here:\$" "$work/out" || fail "not $here not available here"
grep -q '^com.acme.absent  *not available here: no such card in this machine$' "$work/out" || fail "list: no line for the absent one"
"$diapason" doctor > "$work/doctor" || fail "doctor: exit $?"
grep -q '^absent  *com.acme.absent: not available here: no such card in this machine$' "$work/doctor" || fail "doctor: no line for the absent one"
"$diapason" plugins show absent > "$work/out" || fail "show absent: exit $?"
grep -q '^  absent  *not available here: no such card' "$work/out" || fail "show: it is not absent"
for row in "${refused[@]}"; do
    id=${row%%|*} text=${row#*|}
    [ "$(grep -c "^$id " "$work/list")" = 1 ] || fail "list: not exactly one line for $id"
    grep "^$id " "$work/list" | grep -qF "$text" || fail "list: $id does not say: $text"
    [ "$(grep -c "^refused  *$id: " "$work/doctor")" = 1 ] || fail "doctor: not exactly one line for $id"
    grep "^refused  *$id: " "$work/doctor" | grep -qF "$text" || fail "doctor: $id does not say: $text"
    "$diapason" plugins show "$id" > "$work/out" || fail "show $id: exit $?"
    grep '^  refused ' "$work/out" | grep -qF "$text" || fail "show $id does not say: $text"
    "$diapason" plugins show "$id" --json > "$work/out" || fail "show $id --json: exit $?"
    grep -q '"loaded": false' "$work/out" && grep -F '"reason": ' "$work/out" | grep -qF "$text" || fail "show $id --json does not say: $text"
done

"$diapason" plugins show nobody > "$work/out" 2>&1 && fail "show of nothing succeeded" || [ $? = 2 ] || fail "a name of nothing is not a usage error"
"$diapason" plugins show > "$work/out" 2>&1 && fail "show without an id succeeded" || [ $? = 2 ] || fail "not a usage error"
"$diapason" plugins remove > "$work/out" 2>&1 && fail "plugins remove succeeded" || [ $? = 2 ] || fail "not a usage error"

# A folder that is not searched: once where refusals are listed, and a warning elsewhere.
for verb in "plugins list" doctor "plugins show good"; do
    # shellcheck disable=SC2086
    DIAPASON_PLUGINS=$work:/nowhere/at/all "$diapason" $verb > "$work/out" 2>&1 || fail "$verb: exit $?"
    [ "$(grep -c '/nowhere/at/all: no such plugin folder' "$work/out")" = 1 ] || fail "$verb does not say once that a folder was not searched"
done

"$diapason" plugins list --json > "$work/out" || fail "plugins list --json"
grep -q '"id": "com.acme.good"' "$work/out" || fail "JSON without the good plugin"
[ "$(grep -c '"loaded": false' "$work/out")" = $((n + here)) ] || fail "plugins list --json: not $n refused"
[ "$(grep -c '"absent": true' "$work/out")" = "$here" ] || fail "plugins list --json: not $here absent"
cp "$work/doctor" "$work/out"
grep -q " $here not available here, $n refused: see above\$" "$work/out" || fail "doctor does not say that plugins were refused"
grep -q '^isa ' "$work/out" && grep -q '^memory ' "$work/out" && grep -q 'glib 2' "$work/out" || fail "doctor lacks a line"
for format in checkpoint gguf peft safetensors; do
    grep -q "^plugin  *dps.$format " "$work/out" || fail "the $format format is not loaded"
done
if grep -q $'\033' "$work/list" "$work/doctor"; then fail "colours where there is no terminal"; fi
"$diapason" doctor --json > "$work/out" || fail "doctor --json"
if command -v python3 > /dev/null; then
    python3 -c 'import json, sys; d = json.load(open(sys.argv[1])); assert sum(not (p["loaded"] or p["absent"]) for p in d["plugins"]) == int(sys.argv[2])' \
        "$work/out" "$n" || fail "doctor --json"
fi

# On a terminal of 80 columns no line is longer, nothing is lost, and NO_COLOR is obeyed.
if command -v script > /dev/null; then
    script -qec "stty cols 80; '$diapason' doctor" /dev/null < /dev/null | tr -d '\r' > "$work/out"
    grep -q $'^\033\[31mrefused\033\[0m ' "$work/out" || fail "a refusal is not in colour on a terminal"
    sed 's/\x1b\[[0-9;]*m//g' "$work/out" > "$work/plain"
    long=$(LC_ALL=C.UTF-8 grep -E '^.{81,}' "$work/plain" | awk 'NF > 2' || true) # one long word cannot be broken
    [ -z "$long" ] || fail "lines longer than 80 columns: $long"
    words() { tr -s ' \n' '\n\n' < "$1" | grep -vE '^[0-9.]+$'; } # free memory differs from run to run
    diff <(words "$work/plain") <(words "$work/doctor") > /dev/null || fail "the terminal shows other words"
    NO_COLOR=1 script -qec "stty cols 80; '$diapason' doctor" /dev/null < /dev/null > "$work/out"
    if grep -q $'\033' "$work/out"; then fail "NO_COLOR is not obeyed"; fi
fi

# A set-user-id program must not be steered by its caller's environment.
if [ "$(id -u)" = 0 ] && command -v setpriv > /dev/null && ! grep -q 'DIAPASON_SANITIZE:BOOL=ON' "$build/CMakeCache.txt"; then
    mkdir "$work/bin"
    chmod 755 "$work"
    cp "$diapason" "$work/bin/diapason"
    chown 65534 "$work/bin/diapason"
    chmod 4755 "$work/bin/diapason"
    if setpriv --reuid=1000 --regid=1000 --clear-groups "$work/bin/diapason" plugins list > "$work/out" 2>&1; then
        grep -q 'DIAPASON_PLUGINS is ignored' "$work/out" || fail "no warning"
        grep -q 'com.acme' "$work/out" && fail "a privileged program read DIAPASON_PLUGINS"
    else
        echo "the set-user-id case could not run here: $(head -n 1 "$work/out")"
    fi
fi
echo "ok"
