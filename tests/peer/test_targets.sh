#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# The golden choices of modules are what the installed PEFT makes today.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
python=${DIAPASON_PEER_PYTHON:-python3}
"$python" -c 'import peft' 2>/dev/null || { echo "skipped: no peft in $python (set DIAPASON_PEER_PYTHON)"; exit 77; }
"$python" "$here/targets.py" > "$1/targets.peer.json"
cmp "$1/targets.peer.json" "$here/../data/graph/targets.json" && echo "PEFT agrees with tests/data/graph/targets.json"
