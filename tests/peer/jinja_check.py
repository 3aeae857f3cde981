# SPDX-License-Identifier: Apache-2.0
"""Chat templates rendered by Python's jinja2 as transformers sets it up, against `diapason tokenize`-independent helper output.
usage: jinja_check.py HELPER [COUNT [SEED]]"""
import datetime, itertools, json, random, subprocess, sys
import jinja2
from jinja2.ext import loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment


class Generation(jinja2.ext.Extension):
    tags = {"generation"}

    def parse(self, parser):
        line = next(parser.stream).lineno
        body = parser.parse_statements(["name:endgeneration"], drop_needle=True)
        return jinja2.nodes.CallBlock(self.call_method("_inside"), [], [], body).set_lineno(line)

    def _inside(self, caller):
        return caller()


def environment():
    env = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[Generation, loopcontrols])
    env.filters["tojson"] = lambda x, ensure_ascii=False, indent=None, separators=None, sort_keys=False: json.dumps(
        x, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)

    # A chat is no HTML: what is marked safe is text like any other. jinja2 would escape whatever is added to it (Functionary 3.1's tools, as &#34;name&#34;).
    env.filters["safe"] = str

    def refuse(message):
        raise jinja2.exceptions.TemplateError(message)
    env.globals["raise_exception"] = refuse
    env.globals["strftime_now"] = lambda f: datetime.date(2024, 7, 26).strftime(f)  # the day chat.h stands still at
    return env


TEXTS = ["", "a", " two words ", "été à Noël\n", "x<think>y</think>z", "{{ no }}", "1\t2", "\"quoted\" 'single'", "emoji 🙂", "a\r\nb"]


def text(r):
    return r.choice(TEXTS)


def conversation(r):
    out = []
    if r.random() < 0.4:
        out.append({"role": "system", "content": text(r)})
    for _ in range(r.randint(1, 3)):
        out.append({"role": "user", "content": text(r) if r.random() < 0.8 else [{"type": "text", "text": text(r)}, {"type": "text", "text": text(r)}]})
        reply = {"role": "assistant", "content": text(r)}
        if r.random() < 0.2:
            reply["tool_calls"] = [{"type": "function", "function": {"name": "f", "arguments": {"b": r.randint(-5, 5), "a": [1.5, True, None, text(r)]}}}]
        out.append(reply)
    return out if r.random() < 0.5 else out[:-1]


def expression(r, depth=0):
    leaf = ["m.role", "m['content']", "messages | length", "loop.index0", "loop.index", "'lit'", "3", "-7", "true", "none", "messages[0]['role']",
            "messages[-1].role", "m.content is string", "m.tool_calls is defined", "undefined_name is defined", "add_generation_prompt", "loop.first",
            "loop.last", "(m.content if m.content is string else '')", "messages[1:] | length", "bos_token", "tools is none", "[1, 2, 3][::-1] | join('-')"]
    if depth > 2 or r.random() < 0.35:
        return r.choice(leaf)
    s = "(%s | string)" % expression(r, depth + 1)
    return r.choice([
        "%s ~ %s" % (expression(r, depth + 1), expression(r, depth + 1)),
        "(%s == %s)" % (expression(r, depth + 1), expression(r, depth + 1)),
        "(%s and %s)" % (expression(r, depth + 1), expression(r, depth + 1)),
        "(%s or %s)" % (expression(r, depth + 1), expression(r, depth + 1)),
        "(not %s)" % expression(r, depth + 1),
        "(%s if %s else %s)" % tuple(expression(r, depth + 1) for _ in range(3)),
        s + r.choice([".strip()", ".upper()", ".lower()", "[1:]", "[:-1]", "[::-1]", " | trim", " | upper", " | length", ".split('o') | join('|')",
                      ".startswith('a')", ".endswith('e')", " | tojson", ".lstrip('a')", " | capitalize", ".replace('a', 'bb')", ".rstrip()"]),
        "helper(%s)" % expression(r, depth + 1), "helper(%s, sep=%s)" % (expression(r, depth + 1), expression(r, depth + 1)), "helper()",
        "(loop.previtem.role if loop.previtem is defined else 'first')", "(loop.nextitem is undefined)", "(loop.nextitem.content | default('end') | string)",
        "loop.revindex", "loop.revindex0", "loop.cycle('a', 'b', %s)" % expression(r, depth + 1), "loop.length", "loop.depth", "loop.changed(m.role)", "ns.n", "ns.s",
        "({'b': 1, 'A': %s, 'c': 0} | dictsort | tojson)" % expression(r, depth + 1), "({'b': 1, 'a': 3, 'c': 2} | dictsort(by='value', reverse=true) | map('first') | join)",
        "(m | dictsort | map('first') | join(','))", "({'k': %s}.items() | list | string)" % expression(r, depth + 1), "(%s | default('d', true))" % expression(r, depth + 1),
        "(none | selectattr('a') | list | length)", "(tools | map(attribute='x') | list)", "(messages | rejectattr('role', 'in', ['user', 'tool']) | list | length)",
        "(messages | map('length') | list)", "(messages | groupby('role') | map('first') | join('/'))", "(messages | last).role", "(messages | first)['role']",
        s + r.choice([" | title", " | indent(2)", " | indent(3, true)", " | replace('a', 'b', 1)", " | wordcount", " | list | unique | join", " | reverse", ".title()",
                      " | first", " | truncate(5)", ".find('a')", ".count('e')", " | escape", " | string | list | sort | join", ".partition('o')", ".splitlines()", " | int", " | float"]),
        "(%s in %s)" % (r.choice(["'a'", "'o'", "'assistant'"]), s),
        "(m.content | tojson)", "(messages | tojson(indent=2))", "(messages | selectattr('role', 'equalto', 'user') | list | length)",
        "(messages | map(attribute='role') | join(','))", "((loop.index0 %% 2) + %d)" % r.randint(0, 9), "('x' if loop.index0 is even else 'y')" if False else "range(3) | list | length",
    ])


def template(r):
    body = ""
    for _ in range(r.randint(1, 4)):
        kind = r.random()
        space = (r.choice(["", "-"]), r.choice(["", "-"]))
        e = expression(r)
        if kind < 0.5:
            body += "{{%s %s %s}}" % (space[0], e, space[1])
        elif kind < 0.7:
            body += "{%%%s if %s %s%%}\n yes {%% elif loop.first %%}first{%% else %%} no\n{%%%s endif %s%%}\n" % (space[0], e, space[1], space[0], space[1])
        elif kind < 0.8:
            body += "{%% set v = %s %%}{{ v }}{%% set ns.n = ns.n + 1 %%}" % e
        elif kind < 0.84:
            body += "{%% set block%s %s%%} <%s{{ %s }}> {%% endset %%}{{ block }}" % (r.choice(["", " | upper", " | trim"]), space[1], text(r).replace("{", "("), e)
        elif kind < 0.87:
            body += "{%%- set ns.s = ns.s ~ %s -%%}" % e
        elif kind < 0.9:
            body += "{%% for k in %s %%}{{ loop.index }}:{{ k }},{%% else %%}none{%% endfor %%}{{ k is defined }}" % r.choice([
                "messages if k.role == 'user'", "messages[::-1] if k.content", "range(5) if k %% 2".replace("%%", "%"), "[] if k", "m | dictsort if k[0] != 'role'",
                "range(2, 9, 3)", "'abc' if k != 'b'", "messages | selectattr('role', 'eq', 'assistant') if not loop.first".replace(" if not loop.first", "")])
        elif kind < 0.93:
            body += "{% filter " + r.choice(["upper", "trim", "replace('a', 'o')"]) + " %} a " + "{{ " + e + " }} {% endfilter %}"
        elif kind < 0.95:
            body += "{% call(x) wrap('w') %}[{{ x }}|{{ m.role }}]{% endcall %}"
        elif kind < 0.96:
            body += "{% if loop.index0 > 2 %}{% break %}{% elif loop.first %}{% continue %}{% endif %}"
        else:
            body += "{# remark #}{% generation %}" + text(r).replace("{", "(") + "{% endgeneration %} text \n  "
    return "{%- macro helper(x='none', y=2, sep='-') -%}{{ x }}{{ sep }}{{ y }}{{ varargs | length }}{%- endmacro -%}" \
           "{% macro wrap(name) %}<{{ name }}>{{ caller(name ~ 1) }}</{{ name }}>{% endmacro %}{%- set ns = namespace(n=0, s='') -%}{{ bos_token }}{% for m in messages %}\n" + body + "{% endfor %}{{ ns.n }}{% if add_generation_prompt %}GO{% endif %}"


def role_sets(messages):
    """Every choice of roles whose lists of parts a template may not read: it gets them joined (core/token/chat_parts.h)."""
    roles = sorted({m["role"] for m in messages if isinstance(m.get("content"), list)})
    return [set(c) for n in range(1, len(roles) + 1) for c in itertools.combinations(roles, n)]


def joined(messages, roles):
    return [{**m, "content": "".join(p["text"] for p in m["content"])} if m["role"] in roles and isinstance(m.get("content"), list) else m for m in messages]


def main():
    helper, count, seed = sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 1500, int(sys.argv[3]) if len(sys.argv) > 3 else 1
    r, env, rows, want = random.Random(seed), environment(), [], []
    for _ in range(count):
        source, messages, go = template(r), conversation(r), r.random() < 0.5
        try:
            compiled = env.from_string(source)
            render = lambda m: compiled.render(messages=m, tools=None, documents=None, add_generation_prompt=go, bos_token="<s>")
            expected = {render(messages)} | {render(joined(messages, roles)) for roles in role_sets(messages)}
        except Exception:
            expected = None  # we may refuse it too; what we must not do is answer something else silently
        rows.append(json.dumps({"template": source, "messages": messages, "go": go, "kwargs": {"bos_token": "<s>"}}))
        want.append(expected)
    out = subprocess.run([helper], input="\n".join(rows) + "\n", capture_output=True, text=True, check=True).stdout.splitlines()
    bad = refused = 0
    for row, expected, line in zip(rows, want, out):
        got = json.loads(line)
        if expected is None:
            continue
        if got.get("text") not in expected:
            bad += 1
            refused += "error" in got
            if bad <= 5:
                print("template:", json.loads(row)["template"], "\nmessages:", json.loads(row)["messages"], "\nexpected:", repr(expected), "\ngot:     ", got, "\n")
    comparable = sum(e is not None for e in want)
    print(f"{comparable} renderings compared, {bad} differ ({refused} of them refused by us)")
    sys.exit(bool(bad) or comparable < count // 2)


if __name__ == "__main__":
    main()
