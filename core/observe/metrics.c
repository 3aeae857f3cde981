/* SPDX-License-Identifier: Apache-2.0 */
#include "observe/metrics.h"

#include <math.h>
#include <string.h>

int dps_metrics_set (DpsMetrics *m, const char *name, double value)
{
    for (size_t i = 0; i < m->n; i++)
        if (!strcmp (m->items[i].name, name)) {
            m->items[i].value = value;
            return 0;
        }
    char *copy = DPS_GROW (m->items, m->n, m->capacity) ? NULL : dps_strdup (name);
    if (!copy)
        return -1;
    m->items[m->n++] = (DpsMetric){copy, value};
    return 0;
}

int dps_metrics_merge (DpsMetrics *m, const char *prefix, const DpsMetrics *from)
{
    int bad = 0;
    for (size_t i = 0; i < from->n && !bad; i++) {
        char *name = dps_strf ("%s%s", prefix, from->items[i].name);
        bad = !name || dps_metrics_set (m, name, from->items[i].value);
        dps_free (name);
    }
    return bad ? -1 : 0;
}

void dps_metrics_free (DpsMetrics *m)
{
    for (size_t i = 0; i < m->n; i++)
        dps_free (m->items[i].name);
    dps_free (m->items);
    *m = (DpsMetrics){0};
}

json_t *dps_metrics_json (const DpsMetrics *m)
{
    json_t *o = json_object ();
    for (size_t i = 0; o && i < m->n; i++) {
        double v = m->items[i].value;
        int whole = v == floor (v) && fabs (v) < 0x1p53;
        json_t *value = !isfinite (v) ? json_null () : whole ? json_integer ((json_int_t)v) : json_real (v);
        if (json_object_set_new (o, m->items[i].name, value)) {
            json_decref (o);
            return NULL;
        }
    }
    return o;
}

/* People compare these lines with their eyes: four decimals, or four digits of a small number. */
static int python_number (DpsBuf *out, const json_t *v)
{
    if (json_is_null (v))
        return dps_buf_str (out, "nan");
    if (json_is_integer (v))
        return dps_buf_printf (out, "%lld", (long long)json_integer_value (v));
    double x = json_number_value (v);
    char text[40];
    snprintf (text, sizeof text, fabs (x) >= 1e-3 && fabs (x) < 1e9 ? "%.4f" : "%.4g", x);
    char *dot = strchr (text, '.'), *end = text + strlen (text);
    if (dot && !strchr (text, 'e'))
        while (end > dot + 2 && end[-1] == '0')
            *--end = '\0';
    return dps_buf_str (out, text);
}

int dps_metrics_python (DpsBuf *out, const json_t *object)
{
    const char *key;
    json_t *value;
    int bad = dps_buf_str (out, "{"), first = 1;
    json_object_foreach ((json_t *)object, key, value) {
        bad = bad || dps_buf_printf (out, "%s'%s': ", first ? "" : ", ", key) || python_number (out, value);
        first = 0;
    }
    return bad || dps_buf_str (out, "}") ? -1 : 0;
}
