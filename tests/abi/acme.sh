# SPDX-License-Identifier: Apache-2.0
# acme.sh: plugins of a vendor called Acme for the shell tests of this folder: sample.c in many shapes. Sourced after lib.sh.

# acme FOLDER NAME [FLAG …]: compile sample.c into FOLDER/NAME.so with a manifest whose digest is true.
acme() {
    local folder=$1 name=$2
    shift 2
    mkdir -p "$folder"
    cc -w -shared -fPIC -fvisibility=hidden -I "$src/core/include" "$@" -o "$folder/$name.so" "$src/tests/abi/sample.c"
    acme_manifest "$folder" "$name"
}

# acme_manifest FOLDER NAME [LINE …]: its manifest anew, with more lines.
acme_manifest() {
    local folder=$1 name=$2
    shift 2
    printf '[plugin]\nid=com.acme.%s\nkinds=objective\nmodule=%s.so\nsha256=%s\nabi=0.1\nversion=1.0\nlicence=MIT\nsummary=sample %s\n' \
        "$name" "$name" "$(sha256sum "$folder/$name.so" | cut -d' ' -f1)" "$name" > "$folder/$name.plugin"
    [ $# = 0 ] || printf '%s\n' "$@" >> "$folder/$name.plugin"
}

# shown PROGRAM ID JQ_EXPRESSION: what `plugins show ID --json` says, its options in $options.
shown() {
    run 0 "$1" plugins show "$2" --json ${options:-}
    holds out "$3"
}
