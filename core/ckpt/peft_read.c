/* SPDX-License-Identifier: Apache-2.0 */
/*
 * peft_read.c: a PEFT adapter's folder → modules with their tensors, each checked against the configuration, and against the base it is to
 * lie on.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/seal.h"
#include "ckpt/peft.h"

enum { MAX_DEPTH = 32, MAX_KEY = 1024, MAX_TENSORS = 65536 };

/* What a key can end with after the module's path. */
typedef enum Kind { KIND_A, KIND_B, KIND_MAGNITUDE, KIND_BASE_COPY, KIND_EMBEDDING, KIND_SAVED, KIND_OTHER /* of another plugin */ } Kind;
static const struct {
    const char *suffix;
    Kind kind;
} suffixes[] = {
    {".lora_A.weight", KIND_A},
    {".lora_B.weight", KIND_B},
    {".lora_magnitude_vector", KIND_MAGNITUDE},
    {".lora_magnitude_vector.weight", KIND_MAGNITUDE}, /* PEFT before 0.12 */
    {".base_layer.weight", KIND_BASE_COPY},
    {".lora_embedding_A", KIND_EMBEDDING},
    {".lora_embedding_B", KIND_EMBEDDING},
};

static DpsStatus no_memory (DpsError *err, const char *dir) { return dps_fail (err, DPS_ERR_NOMEM, "%s: out of memory", dir); }

/* Cut a known suffix off key (NUL-terminated, without the prefix). */
static Kind split_key (char *key)
{
    size_t n = strlen (key);
    for (size_t i = 0; i < sizeof suffixes / sizeof *suffixes; i++) {
        size_t m = strlen (suffixes[i].suffix);
        if (n > m && !strcmp (key + n - m, suffixes[i].suffix)) {
            key[n - m] = '\0';
            return suffixes[i].kind;
        }
    }
    return KIND_SAVED;
}

/* One tensor of a module, as a module with this part alone. */
static DpsStatus add_part (DpsPeftAdapter *a, const char *path, Kind kind, int64_t tensor, const char *dir, DpsError *err)
{
    char *copy = DPS_GROW (a->modules, a->n_modules, a->modules_capacity) ? NULL : dps_strdup (path);
    if (!copy)
        return no_memory (err, dir);
    DpsPeftModule *m = &a->modules[a->n_modules++];
    *m = (DpsPeftModule){.path = copy, .a = -1, .b = -1, .magnitude = -1};
    if (kind != KIND_OTHER)
        *(kind == KIND_A ? &m->a : kind == KIND_B ? &m->b : &m->magnitude) = tensor;
    return DPS_OK;
}

static Kind kind_of (const DpsPeftModule *part) { return part->a >= 0 ? KIND_A : part->b >= 0 ? KIND_B : KIND_MAGNITUDE; }

static int by_path_and_kind (const void *a, const void *b)
{
    const DpsPeftModule *x = a, *y = b;
    int order = strcmp (x->path, y->path);
    return order ? order : (int)kind_of (x) - (int)kind_of (y);
}

/* Parts become modules, sorted by path: a file may hold a million names, so nothing is looked for among them. */
static DpsStatus join_parts (DpsPeftAdapter *a, const char *dir, DpsError *err)
{
    size_t n = 0;
    if (a->n_modules)
        qsort (a->modules, a->n_modules, sizeof *a->modules, by_path_and_kind);
    for (size_t i = 1; i < a->n_modules && !a->config.plugin; i++)
        if (!by_path_and_kind (&a->modules[i - 1], &a->modules[i]))
            return dps_fail (err, DPS_ERR_FORMAT, "%s/%s: '%.300s' has the same part twice", dir, DPS_CKPT_ADAPTER, a->modules[i].path);
    for (size_t i = 0; i < a->n_modules; i++) {
        DpsPeftModule part = a->modules[i], *m = n ? &a->modules[n - 1] : NULL;
        if (!m || strcmp (m->path, part.path) != 0) {
            a->modules[n++] = part;
            continue;
        }
        m->b = part.b >= 0 ? part.b : m->b;
        m->magnitude = part.magnitude >= 0 ? part.magnitude : m->magnitude;
        dps_free (part.path);
    }
    a->n_modules = n;
    return DPS_OK;
}

static DpsStatus add_saved (DpsPeftAdapter *a, const DpsTargets *targets, const char *dir, const char *name, int64_t tensor, DpsError *err)
{
    char module[MAX_KEY];
    /* The head that is tied to a saved embedding: PEFT writes it, and wants it, a second time. */
    if (a->config.ensure_weight_tying && !strcmp (name, DPS_PEFT_TIED_HEAD) && !dps_targets_saves (targets, "lm_head"))
        return DPS_OK;
    snprintf (module, sizeof module, "%s", name);
    char *dot = strrchr (module, '.');
    if (dot)
        *dot = '\0';
    if (!dot || (strcmp (dot + 1, "weight") != 0 && strcmp (dot + 1, "bias") != 0) || !dps_targets_saves (targets, module))
        return dps_fail (err, DPS_ERR_FORMAT, "%s/%s: tensor '%s%.300s' is neither part of a LoRA pair nor in modules_to_save", dir,
                         DPS_CKPT_ADAPTER, DPS_PEFT_PREFIX, name);
    char *copy = DPS_GROW (a->saved, a->n_saved, a->saved_capacity) ? NULL : dps_strdup (name);
    if (!copy)
        return no_memory (err, dir);
    a->saved[a->n_saved++] = (DpsPeftSaved){copy, tensor};
    return DPS_OK;
}

/* Of another plugin the host knows no suffixes: the module is what target_modules names. 0: none does. */
static int cut_module (const DpsTargets *targets, char *key)
{
    int depth = 0;
    for (char *dot = strchr (key, '.'); dot && depth < MAX_DEPTH; dot = strchr (dot + 1, '.'), depth++) {
        *dot = '\0';
        if (dps_targets_match (targets, key))
            return 1;
        *dot = '.';
    }
    return 0;
}

static DpsStatus sort_tensor (DpsPeftAdapter *a, const DpsTargets *targets, const char *dir, int64_t tensor, DpsError *err)
{
    const size_t prefix = sizeof DPS_PEFT_PREFIX - 1;
    DpsStr full = dps_tensors_at (a->file, (size_t)tensor)->name;
    char key[MAX_KEY];
    if (full.len <= prefix || full.len >= MAX_KEY || memcmp (full.ptr, DPS_PEFT_PREFIX, prefix) != 0 || memchr (full.ptr, '\0', full.len))
        return dps_fail (err, DPS_ERR_FORMAT, "%s/%s: tensor '%.*s': expected a name that starts with '%s'", dir, DPS_CKPT_ADAPTER,
                         (int)(full.len < 200 ? full.len : 200), full.ptr, DPS_PEFT_PREFIX);
    memcpy (key, full.ptr + prefix, full.len - prefix);
    key[full.len - prefix] = '\0';
    if (a->config.plugin && cut_module (targets, key))
        return add_part (a, key, KIND_OTHER, tensor, dir, err);
    Kind kind = a->config.plugin ? KIND_SAVED : split_key (key);
    if (kind == KIND_SAVED)
        return add_saved (a, targets, dir, key, tensor, err);
    if (kind == KIND_EMBEDDING)
        return dps_fail (err, DPS_ERR_UNSUPPORTED, "%s/%s: '%.300s' has a LoRA on an embedding, which is not implemented", dir,
                         DPS_CKPT_ADAPTER, key);
    if (kind == KIND_BASE_COPY)
        return DPS_OK; /* PEFT's copy of an unchanged base weight */
    return add_part (a, key, kind, tensor, dir, err);
}

static int is_float (const DpsTensorInfo *t)
{
    static const char *const names[] = {"F32", "BF16", "F16", "F64"};
    for (size_t i = 0; i < 4; i++)
        if (t->dtype.len == strlen (names[i]) && !memcmp (t->dtype.ptr, names[i], t->dtype.len))
            return 1;
    return 0;
}

static DpsStatus check_module (DpsPeftAdapter *ad, const DpsTargets *targets, DpsPeftModule *m, const char *dir, DpsError *err)
{
    char where[1400];
    snprintf (where, sizeof where, "%.900s/%s: '%.300s'", dir, DPS_CKPT_ADAPTER, m->path);
    if (ad->config.plugin) /* its tensors are looked at when the plugin says which there are */
        return DPS_OK;
    if (m->a < 0 || m->b < 0)
        return dps_fail (err, DPS_ERR_FORMAT, "%s has no %s", where, m->a < 0 ? "lora_A.weight" : "lora_B.weight");
    if (!dps_targets_match (targets, m->path)) /* PEFT would drop it without a word */
        return dps_fail (err, DPS_ERR_FORMAT, "%s is in the weights, but target_modules of %s does not name it", where,
                         DPS_CKPT_ADAPTER_CONFIG);
    const DpsTensorInfo *a = dps_tensors_at (ad->file, (size_t)m->a), *b = dps_tensors_at (ad->file, (size_t)m->b);
    if (!is_float (a) || !is_float (b))
        return dps_fail (err, DPS_ERR_DTYPE, "%s: lora_A is %.*s and lora_B is %.*s; expected F32, BF16, F16 or F64", where,
                         (int)a->dtype.len, a->dtype.ptr, (int)b->dtype.len, b->dtype.ptr);
    if (a->rank != 2 || b->rank != 2)
        return dps_fail (err, DPS_ERR_SHAPE, "%s: lora_A has rank %u and lora_B %u; both must be matrices", where, a->rank, b->rank);
    DPS_TRY (dps_peft_config_module (&ad->config, m->path, &m->r, &m->scale, err));
    if (a->shape[0] != m->r || b->shape[1] != m->r) {
        int swapped = a->shape[1] == m->r && b->shape[0] == m->r;
        return dps_fail (err, DPS_ERR_SHAPE, "%s: lora_A is %lld×%lld and lora_B %lld×%lld, but r is %lld: expected r×in and out×r%s",
                         where, (long long)a->shape[0], (long long)a->shape[1], (long long)b->shape[0], (long long)b->shape[1],
                         (long long)m->r, swapped ? " (they look swapped)" : "");
    }
    m->in = a->shape[1];
    m->out = b->shape[0];
    if (m->r > m->in && m->r > m->out)
        return dps_fail (err, DPS_ERR_SHAPE, "%s: r is %lld, more than both dimensions (%lld×%lld)", where, (long long)m->r,
                         (long long)m->out, (long long)m->in);
    if (m->in < 1 || m->out < 1)
        return dps_fail (err, DPS_ERR_SHAPE, "%s has an empty matrix", where);
    if ((m->magnitude >= 0) != (ad->config.use_dora != 0))
        return dps_fail (err, DPS_ERR_FORMAT, "%s %s a lora_magnitude_vector, but use_dora is %s", where,
                         m->magnitude >= 0 ? "has" : "lacks", ad->config.use_dora ? "true" : "false");
    if (m->magnitude >= 0) {
        const DpsTensorInfo *v = dps_tensors_at (ad->file, (size_t)m->magnitude);
        if (!is_float (v) || v->rank != 1 || v->shape[0] != m->out)
            return dps_fail (err, DPS_ERR_SHAPE, "%s: lora_magnitude_vector must be a vector of %lld numbers", where, (long long)m->out);
    }
    return DPS_OK;
}

/* What modules_to_save names and the file does not hold would stay the base's without a word. Of a classifier PEFT lists both names that
 * a head can have, and Diapason's is "score". */
static DpsStatus check_saved (const DpsPeftAdapter *a, const DpsTargets *targets, const char *dir, DpsError *err)
{
    const DpsNames *names = &a->config.targets.modules_to_save;
    for (size_t i = 0; i < names->n; i++)
        if (!dps_targets_saved (targets, i) && !(a->config.classifies && !strcmp (names->names[i], "classifier")))
            return dps_fail (err, DPS_ERR_FORMAT, "%s/%s: no tensor of '%.300s', which modules_to_save of %s names", dir, DPS_CKPT_ADAPTER,
                             names->names[i], DPS_CKPT_ADAPTER_CONFIG);
    return DPS_OK;
}

static DpsStatus read_tensors (DpsPeftAdapter *a, const char *dir, DpsError *err)
{
    DpsTargetSpec spec = a->config.targets;
    DpsTargets *targets = NULL;
    if (dps_tensors_count (a->file) > MAX_TENSORS)
        return dps_fail (err, DPS_ERR_LIMIT, "%s/%s: %zu tensors; at most %d are read", dir, DPS_CKPT_ADAPTER, dps_tensors_count (a->file),
                         MAX_TENSORS);
    DPS_TRY (dps_targets_new (&spec, &targets, err));
    DpsStatus st = DPS_OK;
    for (size_t i = 0; i < dps_tensors_count (a->file) && st == DPS_OK; i++)
        st = sort_tensor (a, targets, dir, (int64_t)i, err);
    if (st == DPS_OK)
        st = join_parts (a, dir, err);
    for (size_t i = 0; i < a->n_modules && st == DPS_OK; i++)
        st = check_module (a, targets, &a->modules[i], dir, err);
    if (st == DPS_OK)
        st = check_saved (a, targets, dir, err);
    dps_targets_free (targets);
    if (st == DPS_OK && a->n_modules == 0 && a->n_saved == 0)
        st = dps_fail (err, DPS_ERR_FORMAT, "%s/%s: adapts no module at all", dir, DPS_CKPT_ADAPTER);
    return st;
}

static void read_base_digest (DpsPeftAdapter *a)
{
    char *digest = dps_tensors_meta (a->file, DPS_PEFT_BASE_KEY);
    if (digest && strlen (digest) == 64 && strspn (digest, "0123456789abcdef") == 64)
        memcpy (a->base_sha256, digest, 65);
    dps_free (digest);
    a->under = dps_tensors_meta (a->file, DPS_PEFT_UNDER_KEY);
}

static DpsStatus read_config (DpsPeftAdapter *a, const char *dir, DpsError *err)
{
    char *path = dps_path_join (dir, DPS_CKPT_ADAPTER_CONFIG), *text = path ? dps_tensors_meta (a->file, DPS_CKPT_ADAPTER_CONFIG) : NULL;
    DpsStatus st = text ? dps_peft_config_parse (text, strlen (text), path, &a->config, err) : no_memory (err, dir);
    dps_free (text);
    dps_free (path);
    return st;
}

DpsStatus dps_peft_open (const char *dir, const DpsFormat *format, DpsPeftAdapter **out, DpsError *err)
{
    DpsPeftAdapter *a = dps_calloc (1, sizeof *a);
    DpsStatus st = a ? dps_seal_check (dir, err) : no_memory (err, dir);
    if (st == DPS_OK)
        st = dps_tensors_open (format, dir, &a->file, err);
    if (st == DPS_OK)
        st = read_config (a, dir, err);
    if (st == DPS_OK)
        st = read_tensors (a, dir, err);
    if (st == DPS_OK)
        read_base_digest (a);
    if (st != DPS_OK) {
        dps_peft_close (a);
        if (st == DPS_ERR_USAGE) /* the file says it, not who named the file */
            st = dps_error_recode (err, DPS_ERR_FORMAT);
        if (st == DPS_ERR_UNSUPPORTED)
            dps_error_hint (err, "merge it into its base with PEFT (merge_and_unload) and give that model");
        return dps_error_hint_files (err, st, "adapter");
    }
    *out = a;
    return DPS_OK;
}

void dps_peft_close (DpsPeftAdapter *a)
{
    if (!a)
        return;
    for (size_t i = 0; i < a->n_modules; i++)
        dps_free (a->modules[i].path);
    for (size_t i = 0; i < a->n_saved; i++)
        dps_free (a->saved[i].name);
    dps_free (a->under);
    dps_free (a->modules);
    dps_free (a->saved);
    dps_tensors_close (a->file);
    dps_peft_config_free (&a->config);
    dps_free (a);
}

DpsStatus dps_peft_digest (const char *dir, DpsDigest *out, DpsError *err)
{
    char *path = dps_path_join (dir, DPS_CKPT_ADAPTER);
    DpsStatus st = path ? dps_sha256_file (path, out, err) : no_memory (err, dir);
    dps_free (path);
    return st;
}

static DpsStatus check_shape (const DpsPeftModule *m, DpsPeftShapeOf shape_of, void *ctx, DpsError *err)
{
    uint32_t rank = 0;
    int64_t shape[DPS_TENSOR_MAX_RANK];
    char *name = dps_strf ("%s.weight", m->path);
    if (!name)
        return no_memory (err, m->path);
    int found = shape_of (ctx, name, &rank, shape);
    dps_free (name);
    if (!found)
        return dps_fail (err, DPS_ERR_INVALID, "the base has no linear map '%.300s': it was trained on another model", m->path);
    if (m->a >= 0 && (rank != 2 || shape[0] != m->out || shape[1] != m->in))
        return dps_fail (err, DPS_ERR_SHAPE, "'%.300s' is for %lld×%lld, the base has %lld×%lld: it was trained on another model", m->path,
                         (long long)m->out, (long long)m->in, (long long)(rank > 0 ? shape[0] : 0), (long long)(rank > 1 ? shape[1] : 0));
    return DPS_OK;
}

DpsStatus dps_peft_check_base (const DpsPeftAdapter *a, DpsPeftShapeOf shape_of, void *ctx, const char *base_sha256, DpsError *err)
{
    for (size_t i = 0; i < a->n_modules; i++)
        DPS_TRY (check_shape (&a->modules[i], shape_of, ctx, err));
    for (size_t i = 0; i < a->n_saved; i++) {
        const DpsTensorInfo *t = dps_tensors_at (a->file, (size_t)a->saved[i].tensor);
        uint32_t rank = 0;
        int64_t shape[DPS_TENSOR_MAX_RANK];
        int same = shape_of (ctx, a->saved[i].name, &rank, shape) && rank == t->rank && is_float (t);
        for (uint32_t d = 0; same && d < rank; d++)
            same = shape[d] == t->shape[d];
        if (!same)
            return dps_fail (err, DPS_ERR_SHAPE, "'%.300s' (modules_to_save) does not fit the base's tensor of that name",
                             a->saved[i].name);
    }
    if (a->base_sha256[0] && base_sha256 && base_sha256[0] && strcmp (a->base_sha256, base_sha256) != 0)
        return dps_fail (err, DPS_ERR_DIGEST,
                         "trained on the base with digest %.12s…, this one has %.12s…: the shapes fit, the weights do not", a->base_sha256,
                         base_sha256);
    return DPS_OK;
}
