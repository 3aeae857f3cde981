# SPDX-License-Identifier: Apache-2.0
# embed.awk: dialect.h and one FAMILY.cl, with the headers they include, as the lines of a C string. awk -v family=PATH -v dialect=FOLDER -f embed.awk
function put(path, line) {
    if (seen[path]++) return
    while ((getline line < path) > 0) {
        if (line ~ /^#include "/) {
            split(line, part, "\"")
            put(dialect "/" part[2])
            continue
        }
        gsub(/\\/, "&&", line)
        gsub(/"/, "\\\\&", line)
        print "\"" line "\\n\""
    }
    close(path)
}
BEGIN { put(dialect "/dialect.h"); put(family) }
