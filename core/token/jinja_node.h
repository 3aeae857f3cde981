/* SPDX-License-Identifier: Apache-2.0 */
/* jinja_node.h: tokens and nodes: what the lexer hands the parser, and the parser the evaluator. */
#ifndef DPS_TOKEN_JINJA_NODE_H
#define DPS_TOKEN_JINJA_NODE_H

#include "token/jinja.h"

/** Kinds of token. Operators are their own characters: '+', '(' …, and the two-character ones below. */
enum {
    DPS_JT_END = 1,
    DPS_JT_DATA, /* text between tags */
    DPS_JT_BLOCK_BEGIN,
    DPS_JT_BLOCK_END,
    DPS_JT_VARIABLE_BEGIN,
    DPS_JT_VARIABLE_END,
    DPS_JT_NAME,
    DPS_JT_STRING,
    DPS_JT_INT,
    DPS_JT_FLOAT,
    DPS_JT_EQ = 256, /* == != <= >= // ** */
    DPS_JT_NE,
    DPS_JT_LE,
    DPS_JT_GE,
    DPS_JT_FLOOR,
    DPS_JT_POWER
};

typedef struct DpsJtoken {
    int kind, line;
    DpsJval value; /* text of data, names and strings; numbers */
} DpsJtoken;

/** Cut the source into tokens; the last one is END. The array lives in the arena. */
int dps__jinja_lex (DpsJinja *in, DpsJtoken **out);

/** Kinds of node, with what a, b, c and list hold. `list` is a chain through `next`. */
enum {
    /* expressions */
    DPS_JN_CONST = 1, /* value */
    DPS_JN_NAME,      /* value: the name */
    DPS_JN_LIST,      /* list */
    DPS_JN_TUPLE,     /* list */
    DPS_JN_DICT,      /* list of PAIR */
    DPS_JN_PAIR,      /* a key, b value */
    DPS_JN_BINARY,    /* op, a, b */
    DPS_JN_AND,
    DPS_JN_OR,
    DPS_JN_NOT,       /* a */
    DPS_JN_NEGATE,    /* a */
    DPS_JN_POSITIVE,  /* a */
    DPS_JN_COMPARE,   /* a, list of OPERAND */
    DPS_JN_OPERAND,   /* op, a */
    DPS_JN_IF_ELSE,   /* a condition, b then, c else or NULL */
    DPS_JN_ATTRIBUTE, /* a, value: the name */
    DPS_JN_ITEM,      /* a, b */
    DPS_JN_SLICE,     /* a start, b stop, c step: each or NULL; only as b of ITEM */
    DPS_JN_CALL,      /* a callee, list of arguments */
    DPS_JN_KEYWORD,   /* value: the name, a; in arguments */
    DPS_JN_STAR,      /* a: *a in arguments */
    DPS_JN_STAR_STAR, /* a: **a in arguments */
    DPS_JN_FILTER,    /* a or NULL (filter block), value: the name, list of arguments */
    DPS_JN_TEST,      /* a, value: the name, list of arguments */
    /* statements */
    DPS_JN_DATA,         /* value */
    DPS_JN_OUTPUT,       /* a */
    DPS_JN_IF,           /* a condition, body, orelse; op 1: orelse is the next condition's IF */
    DPS_JN_FOR,          /* a target, b items, c filter or NULL, body, orelse; op 1: recursive */
    DPS_JN_SET,          /* a target, b value */
    DPS_JN_SET_BLOCK,    /* a target, b filters or NULL, body */
    DPS_JN_NS_TARGET,    /* a: the namespace's NAME, value: the attribute; as a target */
    DPS_JN_MACRO,        /* value: the name, list of KEYWORD (a: default or NULL), body */
    DPS_JN_CALL_BLOCK,   /* a CALL, list of KEYWORD, body */
    DPS_JN_FILTER_BLOCK, /* a filters, body */
    DPS_JN_WITH,         /* list of PAIR (a target, b value), body */
    DPS_JN_GENERATION,   /* body */
    DPS_JN_BREAK,
    DPS_JN_CONTINUE
};
enum { DPS_JN_IN = 512, DPS_JN_NOT_IN }; /* ops besides token kinds */

struct DpsJnode {
    int kind, line, op;
    DpsJval value;
    DpsJnode *a, *b, *c;
    DpsJnode *list, *body, *orelse;
    DpsJnode *next;
};

struct DpsJmacro {
    const DpsJnode *node; /* MACRO or CALL_BLOCK */
    DpsJscope *scope;     /* where it was defined */
    DpsJval caller;       /* of a call block; UNDEFINED kind otherwise */
};

/* What `loop` is inside a for. */
struct DpsJloop {
    const DpsJnode *node;
    DpsJscope *scope; /* around the loop */
    DpsJlist items;
    size_t index;
    int depth;       /* of recursion, from 0 */
    DpsJval changed; /* last argument of loop.changed(), or UNDEFINED */
};

/** Parser state; shared by jinja_parse.c (statements) and jinja_expr.c; what both need is in jinja_node.c. */
typedef struct DpsJparser {
    DpsJinja *in;
    const DpsJtoken *at;
    int nesting;
} DpsJparser;

/** NULL after failing, all of them. */
DpsJnode *dps__jinja_parse (DpsJinja *in, const DpsJtoken *tokens);
DpsJnode *dps__jinja_node (DpsJparser *p, int kind);
DpsJnode *dps__jinja_expression (DpsJparser *p);
/** A tuple where commas follow, else its only expression. */
DpsJnode *dps__jinja_tuple (DpsJparser *p, int with_condition);
/** name(…)|name… after a pipe or in {% filter %}; `inner` is what the first filter takes, or NULL. */
DpsJnode *dps__jinja_filters (DpsJparser *p, DpsJnode *inner, int first_without_pipe);
int dps__jinja_is_name (const DpsJtoken *t, const char *name);
int dps__jinja_skip_op (DpsJparser *p, int kind);
int dps__jinja_expect (DpsJparser *p, int kind);
int dps__jinja_unexpected (DpsJparser *p, const char *expected);

#endif
