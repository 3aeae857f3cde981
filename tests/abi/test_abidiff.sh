#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# A witness library with one object of every public struct, compared by abidiff with the baseline of the last release (rule 17): it
# sees what offsets cannot, such as a changed parameter of a function in a table. After a meant change of a draft:
#     tests/abi/test_abidiff.sh BUILD --update
set -euo pipefail
top=$(cd "$(dirname "$0")/../.." && pwd)
baseline=$top/tests/abi/witness.abi
command -v abidw > /dev/null && command -v abidiff > /dev/null || { echo "abidw and abidiff are not installed (Debian: abigail-tools): run tools/deps --test"; exit 77; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
{
    echo '#include "diapason/diapason.h"'
    sed -n 's/^_Static_assert (sizeof (\(Dps[A-Za-z0-9]*\)).*/const \1 *dps_witness_\1;/p' "$top/tests/abi/offsets.h"
} > "$work/witness.c"
# Every struct and union of the headers is in it, by each header's own words.
for struct in $(sed -n 's/^} \(Dps[A-Za-z0-9]*\);.*/\1/p' "$top"/core/include/diapason/[!s]*.h "$top"/core/include/diapason/draft/*.h | sort -u); do
    grep -q "dps_witness_$struct;" "$work/witness.c" || { echo "$struct of the headers is not in tests/abi/offsets.h"; exit 1; }
done
[ "$(grep -c witness_ "$work/witness.c")" -ge 30 ] || { echo "offsets.h names too few structs"; exit 1; }
(cd "$work" && cc -std=c11 -g -shared -fPIC -fdebug-prefix-map="$top=." -I "$top/core/include" -o libwitness.so witness.c)
if [ "${2-}" = --update ]; then
    abidw --no-corpus-path --no-comp-dir-path --no-show-locs "$work/libwitness.so" > "$baseline"
    exit 0
fi
abidiff --no-show-locs "$baseline" "$work/libwitness.so" || {
    echo "The ABI differs from tests/abi/witness.abi. If that is meant: $0 BUILD --update, and say so in core/doc/ABI.md"
    exit 1
}
