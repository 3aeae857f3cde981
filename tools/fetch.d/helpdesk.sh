# SPDX-License-Identifier: Apache-2.0
# helpdesk.sh: help-desk rows in French and English, made from Debian's gnome-user-docs (CC BY-SA 3.0). The Debian version moves with
# the release: it is written into SOURCE beside the rows, and no count is promised beyond 400 training rows.

describe() {
    printf '%s\t%s\n' helpdesk "questions and answers in French and English from the GNOME user documentation (CC BY-SA 3.0), a folder: train.jsonl, heldout.jsonl" \
        bench-rows "rows of about 270 tokens with a third scored, made from helpdesk: the workload of bench train"
}

path_of() {
    case $1 in
    helpdesk) echo "$cache/data/helpdesk" ;;
    bench-rows) echo "$cache/data/helpdesk/bench.jsonl" ;;
    *) return 1 ;;
    esac
}

present() { [ -f "$cache/data/helpdesk/SHA256SUMS" ]; }

verify() {
    (cd "$cache/data/helpdesk" && sha256sum --quiet -c SHA256SUMS >&2) && return 0
    rm -rf "$cache/data/helpdesk"
    return 1
}

fetch() {
    mkdir -p "$cache/data"
    have apt-get || die "gnome-user-docs comes from Debian and there is no apt-get" "run tools/fetch $1 on Debian 12 and copy $cache/data/helpdesk here"
    # On a fresh machine apt has no lists yet: renew them once (needs root) where the first try fails.
    (cd "$tmp" && apt-get download -qq gnome-user-docs >/dev/null 2>&1) || {
        say "renewing the package lists"
        as_root apt-get update -qq >/dev/null || true
        (cd "$tmp" && apt-get download -qq gnome-user-docs >/dev/null 2>&1) ||
            die "apt-get could not download gnome-user-docs" "check the network and /etc/apt/sources.list (Debian 12, main)"
    }
    (cd "$tmp" && dpkg-deb -x gnome-user-docs_*.deb unpacked)
    python3 "$top/tools/fetch.d/helpdesk.py" "$tmp/unpacked/usr/share/help" "$tmp/helpdesk"
    python3 "$top/tools/bench/make-rows" "$tmp/helpdesk/train.jsonl" "$tmp/helpdesk/bench.jsonl"
    basename "$tmp"/gnome-user-docs_*.deb > "$tmp/helpdesk/SOURCE"
    cp "$tmp/unpacked/usr/share/doc/gnome-user-docs/copyright" "$tmp/helpdesk/COPYRIGHT"
    terms "The help-desk rows are adapted from the GNOME user documentation, CC BY-SA 3.0, (c) its authors; see COPYRIGHT beside them."
    (cd "$tmp/helpdesk" && sha256sum *.jsonl > SHA256SUMS)
    mv "$tmp/helpdesk" "$cache/data/helpdesk"
}
