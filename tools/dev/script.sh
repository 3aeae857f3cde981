# SPDX-License-Identifier: Apache-2.0
# script.sh: what the scripts of tools/ share; sourced, never run. Sets $top (the root of the tree) and leaves strict mode on.
set -euo pipefail
top=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
name=$(basename "$0")

say() { printf '%s: %s\n' "$name" "$*" >&2; }

# die MESSAGE NEXT_STEP: every failure ends with what to do about it.
die() {
    printf '%s: error: %s\n' "$name" "$1" >&2
    printf '%s: next: %s\n' "$name" "$2" >&2
    exit 1
}

# usage TEXT: print the head of the script (its comment block) and leave with 2.
usage() {
    printf '%s: %s\n' "$name" "$1" >&2
    sed -n '3,/^[^#]/{s/^# \{0,1\}//p}' "$0" >&2
    exit 2
}

have() { command -v "$1" >/dev/null 2>&1; }

# need_root COMMAND …: say so at once when as_root could not run it.
need_root() { [ "$(id -u)" = 0 ] || have sudo || die "'$*' needs root and there is no sudo" "run that as root, then this script again as yourself"; }

# as_root COMMAND …: through sudo where needed.
as_root() {
    need_root "$@"
    if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi
}

# The cache outside the tree: models, data, downloads, the venv of the Python peers.
cache=${DIAPASON_CACHE:-${HOME:-/root}/.cache/diapason}
