#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Every plugin of the build exports dps_plugin_entry and nothing else, names no search path, and is described by its manifest.
set -euo pipefail
folder=$1/lib/diapason/plugins
bad=0
n=0
for module in "$folder"/*.so; do
    [ -f "$module" ] || continue
    n=$((n + 1))
    name=$(basename "$module")
    symbols=$(nm -D --defined-only "$module" | awk '{print $NF}' | tr '\n' ' ')
    [ "$symbols" = "dps_plugin_entry " ] || { echo "$name exports: $symbols"; bad=1; }
    if readelf -d "$module" | grep -E 'RPATH|RUNPATH'; then
        echo "$name contains a search path"
        bad=1
    fi
    if readelf -d "$module" | grep NEEDED | grep -E 'glib|gobject|libfyaml'; then
        echo "$name links a library of the core's own"
        bad=1
    fi
    manifest=${module%.so}.plugin
    grep -qx "sha256=$(sha256sum "$module" | cut -d' ' -f1)" "$manifest" || { echo "$manifest: not the digest of $name"; bad=1; }
done
[ $n -gt 0 ] || { echo "no plugin in $folder"; exit 77; }
echo "$n plugins"
exit $bad
