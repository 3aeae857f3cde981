/* SPDX-License-Identifier: Apache-2.0 */
/*
 * jinja.h: an interpreter for the Jinja that chat templates use, as transformers configures it: trim_blocks, lstrip_blocks, loop controls,
 * an immutable sandbox, no loader. It reaches nothing but its inputs, and is bounded in steps, depth, memory and output.
 * One departure: text marked `safe` stays text, where jinja2 then escapes for HTML what is added to it: a prompt is no HTML.
 *
 * Source → tokens (jinja_lex.c) → nodes (jinja_parse.c, jinja_expr.c) → text (jinja_exec.c, jinja_eval.c, jinja_call.c and the tables of
 * filters, tests and methods). Everything made on the way lives in one arena, freed as a whole: no value is ever freed alone.
 */
#ifndef DPS_TOKEN_JINJA_H
#define DPS_TOKEN_JINJA_H

#include "base/json.h"
#include "base/mem.h"
#include "base/status.h"

enum {
    DPS_JINJA_STEPS = 2000000,   /* nodes evaluated, and 64 bytes of text copied count as one */
    DPS_JINJA_DEPTH = 400,       /* evaluation: expressions, blocks, macros */
    DPS_JINJA_NESTING = 100,     /* parsing */
    DPS_JINJA_SOURCE = 1 << 20,  /* bytes of template */
    DPS_JINJA_OUTPUT = 64 << 20, /* bytes */
    DPS_JINJA_ARENA = 256 << 20, /* bytes, inputs and output not counted */
    DPS_JINJA_RANGE = 100000     /* longest range, as in Jinja's sandbox */
};

/* ---- values ---- */

enum {
    DPS_J_UNDEFINED, /* s: what to say when it is used, or NULL */
    DPS_J_NONE,
    DPS_J_BOOL, /* i */
    DPS_J_INT,  /* i */
    DPS_J_FLOAT,
    DPS_J_STR,       /* s, len: UTF-8 */
    DPS_J_LIST,      /* list */
    DPS_J_TUPLE,     /* list */
    DPS_J_DICT,      /* dict */
    DPS_J_NAMESPACE, /* dict */
    DPS_J_MACRO,
    DPS_J_FUNCTION, /* i: index of the global function */
    DPS_J_METHOD,   /* method */
    DPS_J_LOOP
};

typedef struct DpsJval DpsJval;
typedef struct DpsJlist DpsJlist;
typedef struct DpsJdict DpsJdict;
typedef struct DpsJnode DpsJnode;
typedef struct DpsJloop DpsJloop;
typedef struct DpsJmacro DpsJmacro;
typedef struct DpsJmethod DpsJmethod;
typedef struct DpsJinja DpsJinja;

struct DpsJval {
    int kind;
    union {
        int64_t i;
        double f;
        const char *s;
        DpsJlist *list;
        DpsJdict *dict;
        DpsJmacro *macro;
        DpsJmethod *method;
        DpsJloop *loop;
    };
    size_t len; /* bytes of a string */
};

struct DpsJlist {
    DpsJval *items;
    size_t n, capacity;
};

struct DpsJdict {
    DpsJval *keys, *values; /* in order of insertion */
    size_t n, capacity;
};

struct DpsJmethod {
    DpsJval self;
    const char *name;
};

/** Arguments of a call. */
typedef struct DpsJargs {
    DpsJlist pos;
    DpsJdict named; /* keys are strings */
} DpsJargs;

/* ---- the interpreter ---- */

typedef struct DpsJscope {
    struct DpsJscope *parent;
    DpsJdict names;
} DpsJscope;

typedef struct DpsJblock { /* one block of the arena */
    struct DpsJblock *next;
} DpsJblock;

struct DpsJinja {
    DpsJblock *blocks;
    char *free_at, *free_end;
    size_t arena_bytes, arena_limit;

    const char *source;
    size_t source_len;
    int line;   /* of what is being done, for errors */
    long steps; /* left */
    int depth;

    DpsJscope root;   /* variables of the template itself; its parent holds what render was given */
    DpsBuf *out;      /* where output goes now */
    DpsBuf *main_out; /* the rendered text, where generation spans are counted */
    struct DpsSpan *spans;
    size_t n_spans, spans_capacity;
    const char *date;  /* "YYYY-MM-DD" */
    const char *where; /* names the template in errors */

    DpsStatus status; /* of the first failure */
    DpsError *err;
};

/** Functions below return 0, or -1 after dps__jinja_fail. */
int dps__jinja_fail (DpsJinja *in, DpsStatus code, const char *fmt, ...) __attribute__ ((format (printf, 3, 4)));
/** Take n steps off the budget. */
int dps__jinja_spend (DpsJinja *in, size_t n);

/* jinja_value.c */
void *dps__jinja_alloc (DpsJinja *in, size_t n, size_t size); /* zeroed; NULL after failing */
void dps__jinja_free (DpsJinja *in);
int dps__jinja_append (DpsJinja *in, DpsJlist *list, DpsJval v);
int dps__jinja_put (DpsJinja *in, DpsJdict *dict, DpsJval key, DpsJval value);    /* replaces */
DpsJval *dps__jinja_get (DpsJinja *in, const DpsJdict *dict, const DpsJval *key); /* in: NULL where the key is a text */
DpsJval *dps__jinja_get_text (const DpsJdict *dict, const char *key);
int dps__jinja_new_list (DpsJinja *in, int kind, DpsJval *out);
int dps__jinja_new_dict (DpsJinja *in, int kind, DpsJval *out);
int dps__jinja_from_json (DpsJinja *in, json_t *json, int depth, DpsJval *out);
DpsJval dps__jinja_text (const char *s, size_t len); /* borrowed bytes */
DpsJval dps__jinja_word (const char *s);             /* the same of a C string */
DpsJval dps__jinja_int (int64_t i);
DpsJval dps__jinja_bool (int b);
DpsJval dps__jinja_undefined (DpsJinja *in, const char *fmt, ...) __attribute__ ((format (printf, 2, 3)));
/** A string of the arena from a buffer, which is freed. */
int dps__jinja_take (DpsJinja *in, DpsBuf *b, DpsJval *out);
int dps__jinja_truth (const DpsJval *v);
/** Values that nest too deep or take too many steps are not equal, and the template has failed. in: may be NULL where one of them is a text. */
int dps__jinja_equal (DpsJinja *in, const DpsJval *a, const DpsJval *b);
int dps__jinja_compare (DpsJinja *in, const DpsJval *a, const DpsJval *b, int *out); /* <0, 0, >0; unordered kinds fail */
int dps__jinja_number (const DpsJval *v, double *out);                               /* 1 when v is a number */
const char *dps__jinja_kind (const DpsJval *v);                                      /* Python's name of the type */
/** The items a for loop or filter goes through: a new list. Fails for what cannot be iterated. */
int dps__jinja_items (DpsJinja *in, const DpsJval *v, DpsJlist *out);

/* jinja_print.c */
int dps__jinja_str (DpsJinja *in, const DpsJval *v, DpsBuf *out);                          /* Python's str() */
int dps__jinja_repr (DpsJinja *in, const DpsJval *v, DpsBuf *out);                         /* Python's repr() */
int dps__jinja_to_text (DpsJinja *in, const DpsJval *v, DpsJval *out);                     /* str() as a value */
int dps__jinja_dumps (DpsJinja *in, const DpsJval *v, const DpsJargs *args, DpsJval *out); /* json.dumps with tojson's arguments */

/* jinja_format.c: the % operator, str.format, strftime */
int dps__jinja_percent (DpsJinja *in, const DpsJval *format, const DpsJlist *values, const DpsJval *mapping, DpsJval *out);
int dps__jinja_format (DpsJinja *in, const DpsJval *format, const DpsJargs *args, DpsJval *out);
int dps__jinja_strftime (const char *date, const DpsJval *format, DpsBuf *out); /* 0 or -1 (no memory); date "YYYY-MM-DD" */

/* jinja_text.c: strings as Python sees them, in code points */
size_t dps__jinja_length (const DpsJval *s);
DpsJval dps__jinja_slice_text (const DpsJval *s, size_t from, size_t to); /* code points */
int dps__jinja_py_space (uint32_t c);
DpsJval dps__jinja_strip (const DpsJval *s, const DpsJval *chars, int sides); /* 1 left, 2 right, 3 both; chars NULL: white space */
enum { DPS_J_UPPER = 1, DPS_J_LOWER, DPS_J_CAPITALIZE, DPS_J_TITLE, DPS_J_SWAP };
int dps__jinja_case (DpsJinja *in, const DpsJval *s, int how, DpsJval *out);
int dps__jinja_is_case (const DpsJval *s, int how);                               /* islower, isupper, istitle */
const char *dps__jinja_find (const DpsJval *s, const DpsJval *what, size_t from); /* byte offset `from`; NULL: absent */
int dps__jinja_replace (DpsJinja *in, const DpsJval *s, const DpsJval *old, const DpsJval *new, int64_t most, DpsJval *out);

/* jinja_access.c: what is not there is an undefined value, which says why when it is used */
int dps__jinja_attribute (DpsJinja *in, const DpsJval *object, const char *name, size_t len, DpsJval *out);
int dps__jinja_item (DpsJinja *in, const DpsJval *object, const DpsJval *key, DpsJval *out);
/** v.a.b or v.0: the value at a dotted path; a path that is no string is a key. */
int dps__jinja_at_path (DpsJinja *in, const DpsJval *v, const DpsJval *path, DpsJval *out);
/* object[start:stop:step], step not 0. A bound that was left out is INT64_MAX, or as stop with a negative step INT64_MIN; start 0 forwards. */
int dps__jinja_slice (DpsJinja *in, const DpsJval *object, int64_t start, int64_t stop, int64_t step, DpsJval *out);
int dps__jinja_undefined_used (DpsJinja *in, const DpsJval *v); /* fails with why v is undefined; -1 */

/* jinja_eval.c, jinja_call.c, jinja_exec.c */
int dps__jinja_eval (DpsJinja *in, DpsJscope *scope, const DpsJnode *node, DpsJval *out);
int dps__jinja_binary (DpsJinja *in, int op, const DpsJval *a, const DpsJval *b, DpsJval *out);
int dps__jinja_contains (DpsJinja *in, const DpsJval *item, const DpsJval *container, int *out);
int dps__jinja_args (DpsJinja *in, DpsJscope *scope, const DpsJnode *first, DpsJargs *out);
int dps__jinja_call (DpsJinja *in, const DpsJval *callee, DpsJargs *args, DpsJval *out);
int dps__jinja_exec (DpsJinja *in, DpsJscope *scope, const DpsJnode *first);
int dps__jinja_run_macro (DpsJinja *in, const DpsJmacro *macro, DpsJargs *args, DpsJval *out);
int dps__jinja_run_loop (DpsJinja *in, const DpsJloop *loop, const DpsJval *items, DpsJval *out);

/** Argument i, or the one called `name`; NULL when neither was given. */
const DpsJval *dps__jinja_arg (const DpsJargs *args, size_t i, const char *name);
int dps__jinja_arg_int (DpsJinja *in, const DpsJargs *args, size_t i, const char *name, int64_t missing, int64_t *out);
int dps__jinja_arg_flag (const DpsJargs *args, size_t i, const char *name, int missing);

/** By name; *out_known 0: there is no such filter, test, method or global. */
int dps__jinja_filter (DpsJinja *in, const char *name, const DpsJval *v, DpsJargs *args, DpsJval *out, int *out_known);
/** One row of a table of filters; the last has no name. */
typedef struct DpsJfilters {
    const char *name;
    int (*call) (DpsJinja *in, const DpsJval *v, const DpsJargs *args, DpsJval *out);
} DpsJfilters;
const DpsJfilters *dps__jinja_list_filters (void);
const DpsJfilters *dps__jinja_order_filters (void);
int dps__jinja_test (DpsJinja *in, const char *name, const DpsJval *v, DpsJargs *args, int *out, int *out_known);
/** One row of a table of methods; the last has no name. */
typedef struct DpsJmethods {
    int kind; /* of the object */
    const char *name;
    int (*call) (DpsJinja *in, const DpsJval *self, const DpsJargs *args, const char *name, DpsJval *out);
} DpsJmethods;
const DpsJmethods *dps__jinja_string_methods (void);
int dps__jinja_has_method (const DpsJval *self, const char *name, size_t len, const char **out_name);
int dps__jinja_method (DpsJinja *in, const DpsJmethod *method, DpsJargs *args, DpsJval *out);
int dps__jinja_global (const char *name, size_t len); /* index, or -1 */
int dps__jinja_call_global (DpsJinja *in, int index, DpsJargs *args, DpsJval *out);

/** Render `source` with the variables of `context` (a dict). Text is appended to `out`; spans of {% generation %} are kept in `in`. */
int dps__jinja_render (DpsJinja *in, const char *source, size_t len, const DpsJval *context, DpsBuf *out);

#endif
