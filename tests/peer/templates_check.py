# SPDX-License-Identifier: Apache-2.0
"""Real chat templates from a folder (*.jinja) over fixed conversations: our renderings against Python's jinja2, set up as transformers does.
usage: templates_check.py HELPER FOLDER"""
import json, pathlib, subprocess, sys
import jinja2
from jinja_check import environment

TOOLS = [{"type": "function", "function": {"name": "weather", "description": "The weather in a <town> & \"where\"", "parameters": {
    "type": "object", "properties": {"town": {"type": "string", "description": "Its name"}, "unit": {"type": "string", "enum": ["C", "F"]},
                                     "days": {"type": ["integer", "null"], "default": 1}, "where": {"type": "object", "properties": {"x": {"type": "number"}}},
                                     "tags": {"type": "array", "items": {"type": "string"}}}, "required": ["town"]}}},
         {"type": "function", "function": {"name": "now", "description": "", "parameters": {"type": "object", "properties": {}}}}]


def said(role, content, **more):
    return {"role": role, "content": content, **more}


def call(arguments, name="weather", number=1):
    return {"id": "call%05d" % number, "type": "function", "function": {"name": name, "arguments": arguments}}


USER, REPLY = said("user", " Hello, été <b> 'x' \"y\"\n"), said("assistant", "Good day.")
CASES = {
    "user": [USER],
    "turn": [USER, REPLY],
    "system": [said("system", "Be brief."), USER, REPLY],
    "turns": [said("system", "Be brief."), USER, REPLY, said("user", "More?"), said("assistant", "No 🙂.\n"), said("user", "Why?")],
    "thought": [USER, said("assistant", "<think>\nhm\n</think>\n\nYes."), said("user", "And?"), said("assistant", "<think>\nso\n</think>\n\nNo.")],
    "reasoning": [USER, said("assistant", "Yes.", reasoning_content="hm"), said("user", "And?"), said("assistant", "No.", reasoning_content="so")],
    "empty": [said("user", ""), said("assistant", "")],
    "call": [said("user", "Weather?"), said("assistant", "", tool_calls=[call({"town": "Brest", "days": 2, "unit": None, "tags": ["a", "é"]})]),
             said("tool", "{\"sky\": \"grey\"}", tool_call_id="call00001", name="weather"), said("assistant", "Grey.")],
    "calls": [said("system", "Use tools."), said("user", "Weather?"),
              said("assistant", "Let me see.", tool_calls=[call({"town": "Brest"}), call({}, "now", 2)]),
              said("tool", "grey", tool_call_id="call00001", name="weather"), said("tool", "noon", tool_call_id="call00002", name="now"),
              said("assistant", "Grey at noon."), said("user", "Thanks"), said("assistant", None, tool_calls=[call({"where": {"x": 1.5}, "days": True}, number=3)])],
    "parts": [said("user", [{"type": "text", "text": "one "}, {"type": "text", "text": "two"}]), said("assistant", [{"type": "text", "text": "three"}])],
    "two users": [USER, USER],
    "starts with assistant": [REPLY, USER],
}
OPTIONS = [{}, {"enable_thinking": False}, {"enable_thinking": True}, {"thinking": True, "reasoning_effort": "high", "date_string": "1 May 2025"}]
TOKENS = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>"}


def joined(messages):
    return [{**m, "content": "".join(p["text"] for p in m["content"])} for m in messages]


def reads_parts(render, messages):
    """A template that would print a list of parts, stop at it or leave it out gets the texts joined: core/token/chat_parts.h."""
    try:
        text = render(messages)
    except Exception:
        return False
    return "three" in text and "'three'" not in text and '"three"' not in text


def main():
    helper, folder, env = sys.argv[1], pathlib.Path(sys.argv[2]), environment()
    rows, want = [], []
    files = sorted(folder.rglob("*.jinja"))
    for file in files:
        source = file.read_text()
        compiled = env.from_string(source)
        for case, messages in CASES.items():
            for go in (False, True):
                for tools in (None, TOOLS):
                    for options in OPTIONS:
                        kwargs = {**TOKENS, **options}
                        render = lambda messages: compiled.render(messages=json.loads(json.dumps(messages)), tools=tools, documents=None, add_generation_prompt=go, **kwargs)
                        try:
                            expected = render(messages) if case != "parts" or reads_parts(render, messages) else render(joined(messages))
                        except jinja2.exceptions.TemplateError:
                            expected = None  # the template says no: so must we
                        except Exception:
                            continue  # Python's own trouble, as with a generator that is printed as JSON
                        rows.append({"template": source, "messages": messages, "go": go, "tools": tools, "kwargs": kwargs})
                        want.append((file.name, case, go, tools is not None, options, expected))
    out = subprocess.run([helper], input="".join(json.dumps(row) + "\n" for row in rows), capture_output=True, text=True, check=True).stdout.splitlines()
    bad, refused, both, per = 0, 0, 0, {}
    for (name, case, go, tools, options, expected), line in zip(want, out):
        got = json.loads(line)
        if expected is None:
            both += "error" in got
            if "error" in got:
                continue
        elif got.get("text") == expected:
            continue
        bad += 1
        refused += "error" in got
        per.setdefault(name, []).append(((case, go, tools, options), expected, got))
    for name, list_ in per.items():
        at, expected, got = list_[0]
        print(f"{name}: {len(list_)} differ; first {at}\n  " + got.get("error", "")[:300])
        if "text" in got and expected is not None:
            n = next((i for i, (a, b) in enumerate(zip(expected, got["text"])) if a != b), min(len(expected), len(got["text"])))
            print(f"  expected …{expected[max(0, n - 60):n + 60]!r}\n  got      …{got['text'][max(0, n - 60):n + 60]!r}")
        elif "text" in got:
            print(f"  jinja2 refuses, we gave {got['text'][-200:]!r}")
    print(f"{len(files)} templates, {len(rows)} renderings: {bad} differ ({refused} of them refused by us), {both} refused by both")
    sys.exit(bool(bad) or not files)


main()
