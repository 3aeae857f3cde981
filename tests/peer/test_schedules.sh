#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# The golden learning rates are what the installed transformers computes today.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
python=${DIAPASON_PEER_PYTHON:-python3}
"$python" -c 'import torch, transformers' 2>/dev/null || { echo "skipped: no torch and transformers in $python (set DIAPASON_PEER_PYTHON)"; exit 77; }
"$python" "$here/schedules.py" > "$1/schedules.peer.json"
cmp "$1/schedules.peer.json" "$here/../data/optim/schedules.json" && echo "transformers agrees with tests/data/optim/schedules.json"
