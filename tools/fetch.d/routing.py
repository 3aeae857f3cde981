#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""routing.py PACKAGES TRANSLATION_EN TRANSLATION_FR OUT: rows {"messages"} that ask for a package's section, the answer being JSON.

Sections of at least 300 described packages, at most 150 of each (chosen by hash, not by alphabet); whole source packages are held out, so
that no twin of a held-out description was trained on. A package with a French description gives a row in each language."""
import hashlib
import json
import sys

LEAST, MOST, HELD_OUT, LONGEST = 300, 150, 10, 600
ASK = {
    "en": "Which section of the archive does this package belong to? Answer in JSON.\n\n%s",
    "fr": "À quelle section de l'archive ce paquet appartient-il ? Réponds en JSON.\n\n%s",
}


def stanzas(path):
    """Each paragraph of a control file as {field: text}, continuation lines joined by newlines."""
    fields, key = {}, None
    with open(path, encoding="utf-8") as f:
        for line in f:
            line = line.rstrip("\n")
            if not line:
                if fields:
                    yield fields
                fields, key = {}, None
            elif line[0] == " " and key:
                fields[key] += "\n" + line[1:]
            elif ":" in line:
                key, value = line.split(":", 1)
                fields[key] = value.strip()
    if fields:
        yield fields


def text_of(description):
    """Title, then the paragraphs; " ." stands for an empty line. Cut at a word."""
    title, *rest = description.split("\n")
    body = " ".join("" if line.strip() == "." else line.strip() for line in rest)
    text = (title + "\n" + " ".join(body.split())).strip()
    return text if len(text) <= LONGEST else text[:LONGEST].rsplit(" ", 1)[0] + " …"


def digest(text):
    return hashlib.sha256(text.encode()).hexdigest()


def main():
    packages, english, french, out = sys.argv[1:]
    texts = {"en": {}, "fr": {}}
    for language, path in (("en", english), ("fr", french)):
        for s in stanzas(path):
            if "Description-" + language in s and "Description-md5" in s:
                texts[language][s["Description-md5"]] = text_of(s["Description-" + language])
    by_section, seen = {}, set()
    for s in stanzas(packages):
        name, md5, section = s["Package"], s.get("Description-md5"), s.get("Section", "").rsplit("/", 1)[-1]
        if name in seen or md5 not in texts["en"] or md5 in seen:  # one of several with the same description is enough
            continue
        seen.update((name, md5))
        by_section.setdefault(section, []).append((s.get("Source", name).split()[0], name, md5))
    rows = {"train": [], "heldout": []}
    for section, list_ in by_section.items():
        if len(list_) < LEAST:
            continue
        for source, name, md5 in sorted(list_, key=lambda p: digest(p[1]))[:MOST]:
            part = "heldout" if int(digest(source), 16) % HELD_OUT == 0 else "train"
            for language in ("en", "fr"):
                if md5 in texts[language]:
                    rows[part].append({"messages": [
                        {"role": "user", "content": ASK[language] % texts[language][md5]},
                        {"role": "assistant", "content": json.dumps({"section": section})}]})
    for part, list_ in rows.items():
        list_.sort(key=lambda r: digest(r["messages"][0]["content"]))
        with open("%s/%s.jsonl" % (out, part), "w", encoding="utf-8") as f:
            for r in list_:
                f.write(json.dumps(r, ensure_ascii=False) + "\n")
    if len(rows["train"]) < 1000 or len(rows["heldout"]) < 50:
        sys.exit("routing.py: only %d training and %d held-out rows: the indexes are not what they were" % (len(rows["train"]), len(rows["heldout"])))


main()
