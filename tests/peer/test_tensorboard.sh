#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# TensorBoard itself reads our event files: every tag, step and value, and after a resume only what still counts.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
python=${DIAPASON_PEER_PYTHON:-python3}
"$python" -c 'import tensorboard' 2>/dev/null || { echo "skipped: no tensorboard in $python (set DIAPASON_PEER_PYTHON)"; exit 77; }
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT
"$1/tests/helper_observe" "$out"
"$python" "$here/tensorboard_check.py" "$out"
