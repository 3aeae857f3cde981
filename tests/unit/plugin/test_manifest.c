/* SPDX-License-Identifier: Apache-2.0 */
#include "check.h"
#include "plugin/manifest.h"

#include "base/mem.h"
#include "diapason/plugin.h"

#define HEX "0123456789abcdef0123456789ABCDEF0123456789abcdef0123456789abcdef"

static DpsError err = DPS_ERROR_INIT;

static const char good[] = "# a comment\n"
                           "[plugin]\n"
                           "id=com.acme.fp6-x_1\n"
                           "kinds=format; backend\n"
                           "module=dps-format-fp6.so\n"
                           "sha256=" HEX "\n"
                           "abi=0.1-0.3\n"
                           "version=2.0~rc1\n"
                           "licence=MIT OR Apache-2.0\n"
                           "summary=lit et écrit fp6\n"
                           "needs=dps.host.tape/1;dps.host.rng/12;\n"
                           "isa=avx2;sse4_2\n"
                           "runtimes=libdnnl.so.2;cudart=13\n"
                           "x-acme-note=ours\n"
                           "[x-acme]\n"
                           "anything=goes\n";

static DpsStatus parse (const char *text, DpsManifest *m) { return dps__manifest_parse (text, strlen (text), "t.plugin", m, &err); }

static void test_every_key_is_read (void)
{
    DpsManifest m;
    CHECK_OK (parse (good, &m));
    CHECK_STR (m.id, "com.acme.fp6-x_1");
    CHECK_STR (dps__manifest_name (m.id), "fp6-x_1");
    CHECK_STR (m.kinds, "format; backend");
    CHECK_STR (m.module, "dps-format-fp6.so");
    CHECK_STR (m.sha256, "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef");
    CHECK_STR (m.licence, "MIT OR Apache-2.0");
    CHECK_STR (m.summary, "lit et écrit fp6");
    CU_ASSERT_EQUAL (m.abi_major, 0);
    CU_ASSERT_EQUAL (m.abi_minor, 1);
    const char *at = m.kinds, *runtimes = m.runtimes;
    DpsStr item;
    CU_ASSERT (dps__list_next (&at, &item) && dps_str_is (item, "format"));
    CU_ASSERT (dps__list_next (&at, &item) && dps_str_is (item, "backend"));
    CU_ASSERT_FALSE (dps__list_next (&at, &item));
    CU_ASSERT (dps__list_next (&runtimes, &item) && dps_str_is (item, "libdnnl.so.2"));
    CU_ASSERT (dps__list_next (&runtimes, &item) && dps_str_is (item, "cudart=13"));
}

/* The good manifest with one line replaced ("key=" → line), removed (line NULL) or added (key NULL). */
static void variant (const char *key, const char *line, DpsBuf *out)
{
    for (const char *at = good; *at;) {
        size_t n = strcspn (at, "\n") + 1;
        if (key && !strncmp (at, key, strlen (key))) {
            if (line)
                dps_buf_printf (out, "%s\n", line);
        } else {
            dps_buf_add (out, at, n);
            if (!key && !strncmp (at, "[plugin]", 8))
                dps_buf_printf (out, "%s\n", line);
        }
        at += n;
    }
}

static void test_bad_manifests_are_refused_by_place (void)
{
    static const struct {
        const char *key, *line, *message;
    } cases[] = {
        {"id=", NULL, "t.plugin: key 'id' is missing, expected dps.NAME"},
        {"id=", "id=", "key 'id' is missing"},
        {"id=", "id=gguf", "key 'id' is 'gguf'"},
        {"id=", "id=Dps.gguf", "key 'id'"},
        {"id=", "id=dps..gguf", "key 'id'"},
        {"id=", "id=dps.gguf.", "key 'id'"},
        {"id=", "id=.gguf", "key 'id'"},
        {"id=", "id=dps/../x", "key 'id'"},
        {"id=", "id=dps.\xe2\x80\xae", "key 'id'"},
        {"kinds=", "kinds=format;sorcery", "key 'kinds' is 'format;sorcery', expected backend, objective"},
        {"kinds=", "kinds=;", "key 'kinds'"},
        {"module=", "module=../x.so", "key 'module' is '../x.so', expected a file name ending in .so"},
        {"module=", "module=/etc/x.so", "key 'module'"},
        {"module=", "module=a/b.so", "key 'module'"},
        {"module=", "module=.x.so", "key 'module'"},
        {"module=", "module=x.dll", "key 'module'"},
        {"module=", "module=.so", "key 'module'"},
        {"sha256=", "sha256=00", "key 'sha256' is '00', expected 64 hexadecimal digits"},
        {"sha256=", "sha256=" HEX "00", "key 'sha256'"},
        {"sha256=", "sha256=g123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef", "key 'sha256'"},
        {"abi=", "abi=1", "key 'abi' is '1', expected MAJOR.MINOR"},
        {"abi=", "abi=0.3-0.1", "key 'abi'"},
        {"abi=", "abi=0.1-1.1", "key 'abi'"},
        {"abi=", "abi=-0.1", "key 'abi'"},
        {"abi=", "abi=0.99999999999", "key 'abi'"},
        {"abi=", "abi=0.1 or so", "key 'abi'"},
        {"needs=", "needs=dps.host.tape", "key 'needs' is 'dps.host.tape', expected host interfaces"},
        {"needs=", "needs=dps.host.tape/x", "key 'needs'"},
        {"needs=", "needs=/1", "key 'needs'"},
        {"isa=", "isa=avx2 fma", "key 'isa' is 'avx2 fma'"},
        {"runtimes=", "runtimes=../libevil.so", "key 'runtimes'"},
        {"runtimes=", "runtimes=/lib/libevil.so", "key 'runtimes'"},
        {"runtimes=", "runtimes=a=b=c", "key 'runtimes'"},
        {"runtimes=", "runtimes=cudart=", "key 'runtimes'"},
        {"summary=", "summary=escape\x1b[2J", "key 'summary'"},
        {"summary=",
         "summary=escape\xc2\x9b"
         "2J",
         "key 'summary'"}, /* the same in one character */
        {"version=", "version=1.0\xc2\x85", "key 'version'"},
        {"summary=", "summary=left\xe2\x80\xaetfel", "key 'summary'"}, /* U+202E and its like: writing direction */
        {"summary=", "summary=left\xe2\x81\xa6tfel", "key 'summary'"},
        {"licence=", "licence=MIT\xe2\x80\x8f", "key 'licence'"},
        {"version=", "version=1.0\xd8\x9c", "key 'version'"},
        {"[plugin]", "", "Key file does not start with a group"},
        {"[plugin]", "[plugins]", "unknown group [plugins], expected [plugin]"},
        {"[plugin]", "[x-plugin]", "no group [plugin]"},
        {"[x-acme]", "[other]", "unknown group [other]"},
        {"needs=", "neds=dps.host.tape/9", "unknown key 'neds'; did you mean 'needs'?"},
        {"licence=", "license=MIT", "unknown key 'license'; did you mean 'licence'?"},
        {NULL, "surprise=1", "unknown key 'surprise'"},
        {NULL, "id=com.acme.other", "key 'id' is given twice"},
        {NULL, "nonsense", "t.plugin: "},
        {NULL, "id[fr]=dps.x", "unknown key 'id[fr]'"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        DpsBuf text = {0};
        DpsManifest m = {.id = "untouched"};
        variant (cases[i].key, cases[i].line, &text);
        CHECK_FAILS (parse (text.data, &m), DPS_ERR_FORMAT, cases[i].message);
        CHECK_STR (m.id, "untouched");
        dps_buf_free (&text);
    }
}

static void test_hostile_bytes_are_refused (void)
{
    DpsManifest m;
    DpsBuf big = {0};
    CHECK_FAILS (dps__manifest_parse ("", 0, "t.plugin", &m, &err), DPS_ERR_FORMAT, "the file is empty");
    CHECK_FAILS (dps__manifest_parse ("[plugin]\0id=x", 13, "t.plugin", &m, &err), DPS_ERR_FORMAT, "not UTF-8");
    CHECK_FAILS (dps__manifest_parse ("[plugin]\nid=\xff\xfe", 14, "t.plugin", &m, &err), DPS_ERR_FORMAT, "not UTF-8");
    CHECK_FAILS (dps__manifest_parse ("\xef\xbb\xbf[plugin]\n", 12, "t.plugin", &m, &err), DPS_ERR_FORMAT, "t.plugin");
    dps_buf_str (&big, good);
    while (big.len < 1 << 20)
        dps_buf_printf (&big, "x-%zu=%zu\n", big.len, big.len);
    CHECK_FAILS (dps__manifest_parse (big.data, big.len, "t.plugin", &m, &err), DPS_ERR_LIMIT, "longer than the 65536 bytes");
    dps_buf_free (&big);
    /* Good items, and one too many for the field; a value longer than any field. */
    static const struct {
        const char *key, *item, *message;
        size_t bytes;
    } longer[] = {
        {"needs=", "dps.host.tape/1;", "t.plugin: key 'needs' has 528 bytes, expected at most 512: host interfaces", 528},
        {"summary=", "long", "t.plugin: key 'summary' has 60000 bytes, expected at most 256: one line", 60000},
    };
    for (size_t i = 0; i < sizeof longer / sizeof *longer; i++) {
        DpsBuf line = {0}, text = {0};
        dps_buf_str (&line, longer[i].key);
        while (line.len < strlen (longer[i].key) + longer[i].bytes)
            dps_buf_str (&line, longer[i].item);
        variant (longer[i].key, line.data, &text);
        CHECK_FAILS (parse (text.data, &m), DPS_ERR_FORMAT, longer[i].message);
        dps_buf_free (&line);
        dps_buf_free (&text);
    }
}

static void test_every_cut_is_refused_or_lacks_only_optional_keys (void)
{
    DpsManifest m;
    size_t required = (size_t)(strstr (good, "summary=") - good) + strlen ("summary=l");
    for (size_t n = 0; n < sizeof good; n++)
        if (dps__manifest_parse (good, n, "t.plugin", &m, &err) == DPS_OK)
            CU_ASSERT (n >= required);
    CHECK_OK (dps__manifest_parse (good, sizeof good - 1, "t.plugin", &m, &err));
}

static void test_crlf_is_accepted (void)
{
    DpsManifest m;
    DpsBuf text = {0};
    for (const char *c = good; *c; c++)
        dps_buf_add (&text, *c == '\n' ? "\r\n" : c, *c == '\n' ? 2 : 1);
    CHECK_OK (parse (text.data, &m));
    CHECK_STR (m.module, "dps-format-fp6.so");
    dps_buf_free (&text);
}

CHECK_MAIN ("plugin.manifest", T (test_every_key_is_read), T (test_bad_manifests_are_refused_by_place), T (test_hostile_bytes_are_refused),
            T (test_every_cut_is_refused_or_lacks_only_optional_keys), T (test_crlf_is_accepted))
