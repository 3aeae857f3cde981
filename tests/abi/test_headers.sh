#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Every ABI header compiles alone, as C11 and as C++, with nothing but <stddef.h> and <stdint.h>; nothing in it is of a type whose size
# or meaning differs between compilers (ABI.md rule 6); the committed layout is the one the headers have. Headers called sdk_*.h are
# code compiled into plugins written in C, no part of the ABI: they need only be C11.
set -euo pipefail
top=$(cd "$(dirname "$0")/../.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
bad=0
complain() { echo "$*"; bad=1; }

for header in "$top"/core/include/diapason/*.h "$top"/core/include/diapason/draft/*.h; do
    short=${header#"$top/core/include/"}
    case $short in */sdk_*) sdk=1 ;; *) sdk= ;; esac
    includes=$(grep -E '^ *# *include' "$header" | grep -vE '<stddef.h>|<stdint.h>|"diapason/' || true)
    [ -z "$includes" ] || [ -n "$sdk" ] || complain "$short includes $includes"
    printf '#include "%s"\n' "$short" > "$work/alone.c"
    cp "$work/alone.c" "$work/alone.cc"
    cc -std=c11 -pedantic-errors -Wall -Wextra -Werror -fsyntax-only -I "$top/core/include" "$work/alone.c" || complain "$short: not C11 by itself"
    [ -z "$sdk" ] || continue
    if command -v c++ > /dev/null; then
        c++ -std=c++11 -pedantic-errors -Wall -Wextra -Werror -fsyntax-only -I "$top/core/include" "$work/alone.cc" || complain "$short: not C++11"
    fi
    # Comments and strings out, then words that must not cross the boundary.
    words=$(cc -std=c11 -fpreprocessed -dD -E -P "$header" | grep -vE '^ *#' | sed 's/"[^"]*"//g' |
        grep -nwE 'long|short|bool|_Bool|unsigned|signed|FILE|va_list|wchar_t|time_t|ssize_t|off_t|errno|jmp_buf|enum [A-Za-z]+|\.\.\.' |
        grep -v 'unsigned char' || true)
    [ -z "$words" ] || complain "$short: $words"
    bits=$(cc -std=c11 -fpreprocessed -dD -E -P "$header" | grep -E '^ *[a-z0-9_]+ [a-z0-9_]+ *: *[0-9]+;' || true)
    [ -z "$bits" ] || complain "$short: bit field $bits"
done
# A plugin in C++ that hides what it does not export still exports the one symbol, without a warning.
if command -v c++ > /dev/null; then
    cat > "$work/plugin.cc" << 'END'
#include "diapason/diapason.h"
static DpsStatus init (const DpsHost *, const char *, DpsError *) { return DPS_OK; }
static const void *get_interface (DpsStr) { return nullptr; }
DPS_PLUGIN (init, nullptr, get_interface);
END
    for standard in 11 20; do
        c++ -std=c++$standard -pedantic-errors -Wall -Wextra -Werror -shared -fPIC -fvisibility=hidden -I "$top/core/include" -o "$work/plugin.so" \
            "$work/plugin.cc" || complain "DPS_PLUGIN: not C++$standard"
        exported=$(nm -D --defined-only "$work/plugin.so" | sed 's/.* //')
        [ "$exported" = dps_plugin_entry ] || complain "a C++$standard plugin exports '$exported', expected dps_plugin_entry"
    done
fi
"$top/tools/dev/abi-offsets" > "$work/offsets.h"
diff -u "$top/tests/abi/offsets.h" "$work/offsets.h" ||
    complain "the ABI's layout changed. If that is meant: tools/dev/abi-offsets > tests/abi/offsets.h, and say so in core/doc/ABI.md"
exit $bad
