#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Generated chat templates over generated conversations: our renderings against Python's jinja2, set up as transformers does.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
python=${DIAPASON_PEER_PYTHON:-python3}
"$python" -c 'import jinja2' 2>/dev/null || { echo "skipped: no jinja2 in $python (set DIAPASON_PEER_PYTHON)"; exit 77; }
count=1500
[ "${DIAPASON_TEST_FULL:-0}" = 0 ] || count=30000
"$python" "$here/jinja_check.py" "$1/tests/helper_jinja" $count
