#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# A source file includes its own stage, stages to its left in core/STAGES, base/ and the ABI headers. Plugins include base/ and the ABI only.
# GLib stays inside core/ (not base/) and tools/: never in plugins, never in the ABI. sdk_*.h is C compiled into plugins, not ABI.
set -euo pipefail
cd "$(dirname "$0")/../.."
bad=0
say() { echo "$*" >&2; bad=1; }
read -r -a stages < core/STAGES

# includes FILE: "path" of every quoted include.
includes() { sed -n 's/^ *# *include *"\([^"]*\)".*/\1/p' "$1"; }

allowed=" "
for stage in "${stages[@]}"; do
    allowed+="$stage "
    while read -r file; do
        for path in $(includes "$file"); do
            case $path in
            diapason/*) ;;
            */*) case $allowed in *" ${path%%/*} "*) ;; *) say "$file: includes $path, which is to the right of $stage in core/STAGES" ;; esac ;;
            *) [ -f "$(dirname "$file")/$path" ] || case $path in *.inc) ;; *) say "$file: includes $path without its stage" ;; esac ;;
            esac
        done
    done < <(find "core/$stage" -name '*.[ch]' 2>/dev/null)
done
while read -r file; do
    for path in $(includes "$file"); do
        case $path in
        diapason/* | base/* | check.h | ../dialect/launch.h) ;; # the host's side of the kernels that backends share
        ../*) folder=$(cut -d/ -f1-2 <<< "$file")
            case $(realpath -m --relative-to=. "$(dirname "$file")/$path") in "$folder"/*) ;; *) say "$file: includes $path, outside its folder" ;; esac ;;
        */*) case $file in */test_*.c) ;; *) say "$file: a plugin includes $path; only base/ and diapason/ are for plugins" ;; esac ;;
        esac
    done
    case $file in */test_*.c) ;; *) ! grep -q -E '#include <(glib|gio|gmodule)' "$file" || say "$file: GLib in a plugin" ;; esac
done < <(find $(ls -d backends algorithms formats plugins.d 2>/dev/null) -name '*.[ch]' 2>/dev/null)
for file in core/base/*.[ch] $(find core/include -name '*.h'); do
    ! grep -q -E '#include <(glib|gio|gmodule)' "$file" || say "$file: GLib does not belong here"
done
for file in $(find core/include -name '*.h' ! -name 'sdk_*'); do
    other=$(sed -n 's/^ *# *include *<\([^>]*\)>.*/\1/p' "$file" | grep -v -x -E 'stddef\.h|stdint\.h' || true)
    [ -z "$other" ] || say "$file: an ABI header includes <$other>"
done
exit $bad
