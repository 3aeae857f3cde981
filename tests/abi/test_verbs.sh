#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# `plugins` and `doctor` as a user meets them: broken plugins cost one readable line each and nothing else.
set -euo pipefail
build=$1
top=$(cd "$(dirname "$0")/../.." && pwd)
diapason=$build/bin/diapason
work=$(mktemp -d "$build/tests/verbs.XXXXXX")
trap 'rm -rf "$work"' EXIT
fail() { echo "FAILED: $*"; cat "$work/out"; exit 1; }

compile() { # NAME FLAG …
    local name=$1
    shift
    cc -w -shared -fPIC -fvisibility=hidden -I "$top/core/include" "$@" -o "$work/$name.so" "$top/tests/abi/sample.c"
    printf '[plugin]\nid=com.acme.%s\nkinds=objective\nmodule=%s.so\nsha256=%s\nabi=0.1\nversion=1.0\nlicence=MIT\nsummary=sample %s\n' \
        "$name" "$name" "$(sha256sum "$work/$name.so" | cut -d' ' -f1)" "$name" > "$work/$name.plugin"
}
compile good
compile major -DMAJOR=9
compile symbol -DNO_SYMBOL
compile init -DINIT_FAILS
compile digest
sed -i 's/^sha256=...../sha256=00000/' "$work/digest.plugin"
compile cut
truncate -s 3000 "$work/cut.so"
sed -i "s/^sha256=.*/sha256=$(sha256sum "$work/cut.so" | cut -d' ' -f1)/" "$work/cut.plugin"

export DIAPASON_PLUGINS=$work
"$diapason" plugins list > "$work/out" || fail "plugins list: exit $?"
grep -q '^com.acme.good  *objective  *1.0  *sample good$' "$work/out" || fail "the good plugin is not in the table"
for line in 'major .*built for ABI 9.1' 'symbol .*exports no symbol' 'init .*no such device ? today' 'digest .*SHA-256' 'cut .*was the file cut?'; do
    [ "$(grep -c "^com.acme.$line" "$work/out")" = 1 ] || fail "not exactly one line for: $line"
done
grep -q '^5 refused:$' "$work/out" || fail "not five refused"

"$diapason" plugins show com.acme.digest > "$work/out" || fail "show of a refused plugin"
grep -q '^  refused ' "$work/out" || fail "show does not say why"
"$diapason" plugins show nobody > "$work/out" 2>&1 && fail "show of nothing succeeded"
"$diapason" plugins show > "$work/out" 2>&1 && fail "show without an id succeeded" || [ $? = 2 ] || fail "not a usage error"

"$diapason" plugins list --json > "$work/out" || fail "plugins list --json"
grep -q '"id": "com.acme.good"' "$work/out" || fail "JSON without the good plugin"
"$diapason" doctor > "$work/out" || fail "doctor: exit $?"
grep -q '5 refused: see above$' "$work/out" || fail "doctor does not say that plugins were refused"
grep -q '^isa ' "$work/out" && grep -q '^memory ' "$work/out" && grep -q 'glib 2' "$work/out" || fail "doctor lacks a line"
"$diapason" doctor --json > "$work/out" || fail "doctor --json"
if command -v python3 > /dev/null; then
    python3 -c 'import json, sys; d = json.load(open(sys.argv[1])); assert sum(not p["loaded"] for p in d["plugins"]) == 5' "$work/out" ||
        fail "doctor --json"
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
