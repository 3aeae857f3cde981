/* SPDX-License-Identifier: Apache-2.0 */
/* work.h: streams, events and graphs of the double; all under its lock. */
#ifndef DPS_TESTS_CUDA_WORK_H
#define DPS_TESTS_CUDA_WORK_H

#include "inside.h"

CuResult double_stream_new (CuStream *out);
void double_stream_free (CuStream s);
void double_stream_drop (CuStream s);
CuResult double_stream_add (CuStream s, void (*run) (void *), const void *arg, size_t bytes, int alone);
CuResult double_stream_sync (CuStream s);
CuResult double_event_new (CuEvent *out);
void double_event_free (CuEvent e);
CuResult double_event_record (CuEvent e, CuStream s);
CuResult double_event_wait (CuStream s, CuEvent e);
CuResult double_event_query (CuEvent e);
CuResult double_event_sync (CuEvent e);
CuResult double_capture_begin (CuStream s);
CuResult double_capture_end (CuStream s, CuGraph *out);
void double_graph_free (CuGraph g);
CuResult double_graph_instantiate (CuGraphExec *out, CuGraph g);
CuResult double_graph_update (CuGraphExec x, CuGraph g);
CuResult double_graph_launch (CuGraphExec x, CuStream s);
void double_graph_exec_free (CuGraphExec x);

#endif
