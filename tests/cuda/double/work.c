/* SPDX-License-Identifier: Apache-2.0 */
/*
 * work.c: streams, events and graphs. A stream is a list of work that nobody does until somebody waits: cuStreamSynchronize and cuEventSynchronize do
 * what is needed, cuEventQuery one piece each time. Waiting for another stream's event does that stream's work first.
 */
#include "work.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

typedef enum WorkKind { WORK_LAUNCH, WORK_CALL, WORK_RECORD, WORK_WAIT } WorkKind;

typedef struct Work {
    WorkKind kind;
    void (*run) (void *arg);
    void *arg;
    size_t bytes;
    int alone; /* run without the lock: it may block */
    CuEvent event;
    struct Work *next;
} Work;

struct CUevent_st {
    CuStream stream; /* where it was last recorded */
    int pending;     /* records not done yet */
    int used;        /* recorded at least once */
};

struct CUgraph_st {
    Work *first, **end;
};

struct CUgraphExec_st {
    struct CUgraph_st graph;
};

struct CUstream_st {
    Work *first, **end;
    int busy; /* a thread does its first work */
    CuGraph capture;
    int broken; /* the capture ends with an error */
};

static uint64_t n_updates, n_instances;
static int held;

uint64_t double_graph_updates (void) { return n_updates; }
uint64_t double_graph_instances (void) { return n_instances; }
void double_hold (int hold) { held = hold; }

static void work_free (Work *w)
{
    free (w->arg);
    free (w);
}

static void list_free (Work *w)
{
    for (Work *next; w; w = next) {
        next = w->next;
        work_free (w);
    }
}

static Work *work_copy (const Work *from)
{
    Work *w = calloc (1, sizeof *w);
    if (!w)
        return NULL;
    *w = *from;
    w->next = NULL;
    w->arg = from->bytes ? malloc (from->bytes) : NULL;
    if (from->bytes && !w->arg) {
        free (w);
        return NULL;
    }
    if (from->bytes)
        memcpy (w->arg, from->arg, from->bytes);
    return w;
}

static CuResult add (CuStream s, const Work *from)
{
    Work *w = work_copy (from);
    if (!w)
        return CU_OUT_OF_MEMORY;
    Work ***end = s->capture ? &s->capture->end : &s->end;
    **end = w;
    *end = &w->next;
    return CU_OK;
}

CuResult double_stream_add (CuStream s, void (*run) (void *), const void *arg, size_t bytes, int alone)
{
    const Work w = {
        .kind = run == double_launch_run ? WORK_LAUNCH : WORK_CALL, .run = run, .arg = (void *)arg, .bytes = bytes, .alone = alone};
    return add (s, &w);
}

int double_enqueue (CuStream s, void (*f) (void *arg), const void *arg, size_t bytes, int alone)
{
    double_lock ();
    CuResult r = double_stream_add (s, f, arg, bytes, alone);
    double_unlock ();
    return r == CU_OK;
}

static void drain_until (CuStream s, const struct CUevent_st *event);

/* The first work is done. */
static void leave (CuStream s)
{
    Work *w = s->first;
    if (w->kind == WORK_RECORD)
        w->event->pending--;
    s->first = w->next;
    if (!s->first)
        s->end = &s->first;
    s->busy = 0;
    work_free (w);
    double_wake_others ();
}

static void *do_alone (void *stream)
{
    CuStream s = stream;
    s->first->run (s->first->arg);
    double_lock ();
    leave (s);
    double_unlock ();
    return NULL;
}

/* Do the first work of a stream; what may block is left to a thread when nobody waits for it. */
static void step (CuStream s, int waits)
{
    pthread_t thread;
    while (s->busy)
        double_wait_for_others ();
    Work *w = s->first;
    if (!w)
        return;
    if (w->kind == WORK_WAIT && w->event->pending) {
        if (waits)
            drain_until (w->event->stream, w->event);
        else if (!w->event->stream->busy)
            step (w->event->stream, 0);
        return;
    }
    s->busy = 1;
    if (w->alone && !waits && pthread_create (&thread, NULL, do_alone, s) == 0) {
        pthread_detach (thread);
        return;
    }
    if (w->alone)
        double_unlock ();
    if (w->run)
        w->run (w->arg);
    if (w->alone)
        double_lock ();
    leave (s);
}

static void drain_until (CuStream s, const struct CUevent_st *event)
{
    while (event ? event->pending > 0 : s->first != NULL)
        step (s, 1);
}

CuResult double_stream_new (CuStream *out)
{
    CuStream s = calloc (1, sizeof *s);
    if (!s)
        return CU_OUT_OF_MEMORY;
    s->end = &s->first;
    double_object (1);
    *out = s;
    return CU_OK;
}

void double_stream_free (CuStream s)
{
    drain_until (s, NULL);
    if (s->capture)
        double_breach ("a stream is destroyed while it captures");
    double_object (-1);
    free (s);
}

/* The device is lost: nothing more happens, and whoever waits is let go. */
void double_stream_drop (CuStream s)
{
    if (s->busy)
        return;
    for (Work *w = s->first; w; w = w->next)
        if (w->kind == WORK_RECORD)
            w->event->pending--;
    list_free (s->first);
    s->first = NULL;
    s->end = &s->first;
}

CuResult double_stream_sync (CuStream s)
{
    if (s->capture) {
        s->broken = 1;
        return CU_CAPTURE_UNSUPPORTED;
    }
    drain_until (s, NULL);
    return CU_OK;
}

/* Events. */

CuResult double_event_new (CuEvent *out)
{
    *out = calloc (1, sizeof **out);
    double_object (1);
    return *out ? CU_OK : CU_OUT_OF_MEMORY;
}

void double_event_free (CuEvent e)
{
    if (e->pending) /* the real driver waits to free it; so do we, by doing the work */
        drain_until (e->stream, e);
    double_object (-1);
    free (e);
}

CuResult double_event_record (CuEvent e, CuStream s)
{
    const Work w = {.kind = WORK_RECORD, .event = e};
    if (s->capture)
        return CU_CAPTURE_UNSUPPORTED;
    e->stream = s;
    e->pending++;
    e->used = 1;
    return add (s, &w);
}

CuResult double_event_wait (CuStream s, CuEvent e)
{
    const Work w = {.kind = WORK_WAIT, .event = e};
    return e->pending ? add (s, &w) : CU_OK;
}

CuResult double_event_query (CuEvent e)
{
    if (!e->used || !e->pending)
        return CU_OK;
    if (!held && !e->stream->busy)
        step (e->stream, 0);
    return CU_NOT_READY;
}

CuResult double_event_sync (CuEvent e)
{
    if (e->pending)
        drain_until (e->stream, e);
    return CU_OK;
}

/* Graphs. */

CuResult double_capture_begin (CuStream s)
{
    if (s->capture)
        return CU_ILLEGAL_STATE;
    s->capture = calloc (1, sizeof *s->capture);
    if (!s->capture)
        return CU_OUT_OF_MEMORY;
    s->capture->end = &s->capture->first;
    s->broken = 0;
    return CU_OK;
}

CuResult double_capture_end (CuStream s, CuGraph *out)
{
    CuGraph g = s->capture;
    if (!g)
        return CU_ILLEGAL_STATE;
    s->capture = NULL;
    if (s->broken) {
        list_free (g->first);
        free (g);
        *out = NULL;
        return CU_CAPTURE_INVALIDATED;
    }
    double_object (1);
    *out = g;
    return CU_OK;
}

void double_graph_free (CuGraph g)
{
    list_free (g->first);
    free (g);
    double_object (-1);
}

static CuResult graph_copy (struct CUgraph_st *to, const struct CUgraph_st *from)
{
    to->first = NULL;
    to->end = &to->first;
    for (const Work *w = from->first; w; w = w->next) {
        Work *copy = work_copy (w);
        if (!copy)
            return CU_OUT_OF_MEMORY;
        *to->end = copy;
        to->end = &copy->next;
    }
    return CU_OK;
}

CuResult double_graph_instantiate (CuGraphExec *out, CuGraph g)
{
    CuGraphExec x = calloc (1, sizeof *x);
    if (!x)
        return CU_OUT_OF_MEMORY;
    double_object (1);
    n_instances++;
    *out = x;
    return graph_copy (&x->graph, g);
}

/* In place when only arguments differ. */
CuResult double_graph_update (CuGraphExec x, CuGraph g)
{
    const Work *a = x->graph.first, *b = g->first;
    for (; a && b; a = a->next, b = b->next) {
        int same = a->kind == b->kind && a->run == b->run && a->bytes == b->bytes;
        if (!same || (a->kind == WORK_LAUNCH && ((const Launch *)a->arg)->function != ((const Launch *)b->arg)->function))
            return CU_GRAPH_UPDATE_FAILURE;
    }
    if (a || b)
        return CU_GRAPH_UPDATE_FAILURE;
    n_updates++;
    list_free (x->graph.first);
    return graph_copy (&x->graph, g);
}

CuResult double_graph_launch (CuGraphExec x, CuStream s)
{
    CuResult r = CU_OK;
    for (const Work *w = x->graph.first; w && r == CU_OK; w = w->next)
        r = add (s, w);
    return r;
}

void double_graph_exec_free (CuGraphExec x)
{
    list_free (x->graph.first);
    free (x);
    double_object (-1);
}
