# SPDX-License-Identifier: Apache-2.0
# routing.sh: a routing task with human labels in English and French: a Debian package's description → its Section, answered in JSON. Made from
# apt's indexes, which state no licence for descriptions: use the rows, do not redistribute them. Debian moves: no count is promised.

describe() {
    printf '%s\t%s\n' routing "descriptions of Debian packages in English and French → {\"section\": …}, a folder: train.jsonl, heldout.jsonl (split by source package)"
}

path_of() { [ "$1" = routing ] && echo "$cache/data/routing"; }

present() { [ -f "$cache/data/routing/SHA256SUMS" ]; }

verify() {
    (cd "$cache/data/routing" && sha256sum --quiet -c SHA256SUMS >&2) && return 0
    rm -rf "$cache/data/routing"
    return 1
}

fetch() {
    local lists=$tmp/lists out=$tmp/routing
    have apt-get || die "the package indexes come from Debian and there is no apt-get" "run tools/fetch $1 on Debian 12 and copy $cache/data/routing here"
    mkdir -p "$cache/data" "$lists/partial" "$tmp/apt-cache/archives/partial" "$out"
    # Lists of its own: the machine's stay as they are.
    apt-get -qq -o Dir::State::lists="$lists" -o Dir::Cache="$tmp/apt-cache" -o Acquire::Languages=fr,en update >&2 ||
        die "apt-get could not read the package indexes" "check the network and /etc/apt/sources.list (Debian 12, main)"
    cat_lists() { find "$lists" -maxdepth 1 -name "$1" -print0 | LC_ALL=C sort -z | xargs -0 -r /usr/lib/apt/apt-helper cat-file; }
    cat_lists '*_Packages*' > "$tmp/packages"
    cat_lists '*_Translation-en*' > "$tmp/en"
    cat_lists '*_Translation-fr*' > "$tmp/fr"
    python3 "$top/tools/fetch.d/routing.py" "$tmp/packages" "$tmp/en" "$tmp/fr" "$out"
    terms "The routing rows are made from Debian's package indexes; descriptions are their maintainers' and translators'."
    (cd "$out" && sha256sum *.jsonl > SHA256SUMS)
    mv "$out" "$cache/data/routing"
}
