/* SPDX-License-Identifier: Apache-2.0 */
/* Which of a model's chat templates is used, what it is given, and how content in parts reaches it: as transformers does. */
#include "check.h"
#include "token/chat.h"
#include "token/tokenizer_folder.h"

static DpsError err = DPS_ERROR_INIT;

static const char vocabulary[] =
    "{\"added_tokens\":[{\"id\":1,\"content\":\"<s>\",\"special\":true},{\"id\":2,\"content\":\"</s>\",\"special\":true}],"
    "\"normalizer\":null,\"pre_tokenizer\":null,\"post_processor\":null,\"decoder\":{\"type\":\"Fuse\"},"
    "\"model\":{\"type\":\"BPE\",\"unk_token\":\"<unk>\",\"vocab\":{\"<unk>\":0,\"<s>\":1,\"</s>\":2,\"a\":3,\"b\":4,\"ab\":5},"
    "\"merges\":[\"a b\"]}}";

/* A tokenizer of a folder "m" with this tokenizer_config.json and these files of their own (NULL: not there). */
static DpsStatus try_tokenizer (const char *config, const char *jinja, const char *tool_jinja, DpsTokenizer **tok)
{
    DpsTokenizerFiles f = {.tokenizer = vocabulary, .tokenizer_len = sizeof vocabulary - 1, .folder = "m"};
    f.config = json_loads (config, 0, NULL);
    f.chat_template = jinja;
    f.tool_template = tool_jinja;
    CU_ASSERT_PTR_NOT_NULL_FATAL (f.config);
    DpsStatus st = dps__tokenizer_from_files (&f, tok, &err);
    json_decref (f.config);
    return st;
}

static DpsTokenizer *open_tokenizer (const char *config, const char *jinja, const char *tool_jinja)
{
    DpsTokenizer *tok = NULL;
    CHECK_OK (try_tokenizer (config, jinja, tool_jinja, &tok));
    return tok;
}

static void test_named_templates (void)
{
#define LIST "{\"chat_template\":[{\"name\":\"default\",\"template\":\"D\"},{\"name\":\"tool_use\",\"template\":\"T\"}]}"
    static const struct {
        const char *config, *jinja, *tool_jinja, *without, *with, *where; /* what is used without tools and with, and where that last is */
    } cases[] = {
        {LIST, NULL, NULL, "D", "T", "m/tokenizer_config.json: chat_template"},
        {"{\"chat_template\":{\"tool_use\":\"T\",\"default\":\"D\"}}", NULL, NULL, "D", "T", "m/tokenizer_config.json: chat_template"},
        {"{\"chat_template\":[{\"name\":\"rag\",\"template\":\"R\"},{\"name\":\"default\",\"template\":\"D\"}]}", NULL, NULL, "D", "D",
         "m/tokenizer_config.json: chat_template"},
        {"{\"chat_template\":\"C\"}", NULL, NULL, "C", "C", "m/tokenizer_config.json: chat_template"},
        {LIST, "J", NULL, "J", "J", "m/chat_template.jinja"}, /* files of their own replace what the configuration says */
        {LIST, "J", "U", "J", "U", "m/additional_chat_templates/tool_use.jinja"},
        {"{}", NULL, NULL, NULL, NULL, NULL},
        {"{\"chat_template\":\"\"}", NULL, NULL, "!is empty", "!is empty", NULL},
        /* no default: with tools there may be one all the same */
        {"{\"chat_template\":[{\"name\":\"tool_use\",\"template\":\"T\"}]}", NULL, NULL, "!tool_use", "T",
         "m/tokenizer_config.json: chat_template"},
        {"{\"chat_template\":[{\"name\":\"rag\",\"template\":\"R\"}]}", NULL, NULL, "!\"default\": rag.", "!rag", NULL},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        DpsTokenizer *tok = open_tokenizer (cases[i].config, cases[i].jinja, cases[i].tool_jinja);
        for (int tools = 0; tools < 2; tools++) {
            const char *want = tools ? cases[i].with : cases[i].without;
            DpsTemplate got;
            if (want && want[0] == '!') {
                CHECK_FAILS (dps_tokenizer_chat_template (tok, tools, &got, &err), DPS_ERR_UNSUPPORTED, want + 1);
                CU_ASSERT_PTR_NOT_NULL (strstr (err.msg, "Hint: chat_template_path"));
                continue;
            }
            CHECK_OK (dps_tokenizer_chat_template (tok, tools, &got, &err));
            CHECK_STR (got.source ? got.source : "none", want ? want : "none");
            if (tools && want)
                CHECK_STR (got.where, cases[i].where);
        }
        dps_tokenizer_free (tok);
    }
}

/* Not taken for a model without a template, whose chats would be Gemma's. */
static void test_wrong_templates (void)
{
    static const char *const configs[] = {"{\"chat_template\":5}", "{\"chat_template\":[\"C\"]}",
                                          "{\"chat_template\":[{\"name\":\"default\",\"template\":7}]}",
                                          "{\"chat_template\":{\"default\":\"D\",\"tool_use\":null}}"};
    for (size_t i = 0; i < sizeof configs / sizeof *configs; i++) {
        DpsTokenizer *tok;
        CHECK_FAILS (try_tokenizer (configs[i], NULL, NULL, &tok), DPS_ERR_FORMAT, "tokenizer_config.json: chat_template: expected text");
        CU_ASSERT_PTR_NULL (tok);
    }
}

/* What a template makes of a conversation; an error's text where it does not. */
static const char *render (const char *source, const DpsTokenizer *tok, const char *messages)
{
    static char text[1024];
    const DpsChatOptions o = {.where = "t.jinja"};
    DpsRendered r;
    json_t *list = json_loads (messages, 0, NULL);
    CU_ASSERT_PTR_NOT_NULL_FATAL (list);
    DpsStatus st = dps_chat_render (source, tok, list, &o, &r, &err);
    snprintf (text, sizeof text, "%s", st == DPS_OK ? r.text.data : err.msg);
    if (st == DPS_OK)
        dps_rendered_free (&r);
    json_decref (list);
    return text;
}

static void test_special_tokens_by_name (void)
{
    DpsTokenizer *tok = open_tokenizer ("{\"bos_token\":\"<s>\",\"unk_token\":{\"content\":\"<unk>\"},\"cls_token\":\"a\"}", NULL, NULL);
    CHECK_STR (render ("{{ bos_token }} {{ unk_token }} {{ cls_token }} {{ eos_token is defined }} {{ sep_token is defined }}", tok, "[]"),
               "<s> <unk> a False False");
    dps_tokenizer_free (tok);
}

static void test_errors_say_where (void)
{
    CHECK_STR (render ("\n{{ raise_exception('roles must alternate') }}", NULL, "[]"), "t.jinja:2: roles must alternate");
    CHECK_STR (render ("{{ 1 + }}", NULL, "[]"), "t.jinja:1: found }}, expected an expression");
}

#define PARTS(role, a, b)                                                                                                                  \
    "{\"role\":\"" role "\",\"content\":[{\"type\":\"text\",\"text\":\"" a "\"},{\"type\":\"text\",\"text\":\"" b "\"}]}"
#define EACH "{% for m in messages %}<{{ m.role }}>"
#define READ                                                                                                                               \
    "{% if m.content is string %}{{ m.content }}{% else %}{% for p in m.content %}{{ p.text | trim }};{% endfor %}{% endif %}{% endfor %}"

static void test_parts (void)
{
    static const char user[] = "[" PARTS ("user", " x ", "y ") "]",
                      both[] = "[" PARTS ("user", " x ", "y") "," PARTS ("assistant", "z ", "w") "]";
    static const struct {
        const char *source, *messages, *text;
    } cases[] = {
        {EACH READ, both, "<user>x;y;<assistant>z;w;"},                                                   /* read as parts */
        {EACH "{{ m.content }}{% endfor %}", both, "<user> x y<assistant>z w"},                           /* would be printed as a list */
        {EACH "{{ '' + m.content }}{% endfor %}", user, "<user> x y "},                                   /* would be a mistake */
        {EACH "{% if m.content is string %}{{ m.content }}{% endif %}{% endfor %}", user, "<user> x y "}, /* would be left out */
        {EACH "{{ m.content | tojson }}{% endfor %}", user, "<user>\" x y \""},
        {EACH "{% if m.role == 'assistant' %}{{ m.content + '.' }}{% else %}{{ m.content[0].text }}{% endif %}{% endfor %}", both,
         "<user> x <assistant>z w."},                                                                       /* by role */
        {NULL, both, "<bos><start_of_turn>user\nxy<end_of_turn>\n<start_of_turn>model\nzw<end_of_turn>\n"}, /* as Gemma 3's template */
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        CHECK_STR (render (cases[i].source, NULL, cases[i].messages), cases[i].text);
}

CHECK_MAIN ("templates", T (test_named_templates), T (test_wrong_templates), T (test_special_tokens_by_name), T (test_errors_say_where),
            T (test_parts))
