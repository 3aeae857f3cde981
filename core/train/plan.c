/* SPDX-License-Identifier: Apache-2.0 */
/*
 * plan.c: what a run will need, from shapes alone. The arena of a micro-batch depends on its counts (tokens, scored tokens, segments, roots); the plan
 * records the graph of every micro-batch that no other one exceeds in all of them, and takes the largest arena.
 */
#include <string.h>
#include <sys/resource.h>

#include "base/log.h"
#include "base/mem.h"
#include "train/trainer.h"

typedef DpsBatchCounts Counts;

typedef struct Front {
    Counts *items;
    size_t n, capacity;
    int dropped; /* some counts are only covered by others */
} Front;

/*
 * Best fit is not monotonic: a smaller micro-batch can need a few KiB more than one that covers it. So this many different counts are laid out each;
 * beyond them only those that no other covers, and the arena may then grow by that little.
 */
enum { MAX_COUNTS = 64 };

static int covers (const Counts *a, const Counts *b)
{
    return a->tokens >= b->tokens && a->scored >= b->scored && a->segments >= b->segments && a->roots >= b->roots;
}

static int add (Front *f, Counts c)
{
    int few = f->n < MAX_COUNTS, covered = 0;
    for (size_t i = 0; i < f->n; i++) {
        if (covers (&f->items[i], &c) && covers (&c, &f->items[i]))
            return 0;
        covered |= covers (&f->items[i], &c);
    }
    f->dropped |= !few;
    if (covered && !few)
        return 0;
    for (size_t i = 0; !few && i < f->n;)
        if (covers (&c, &f->items[i]))
            f->items[i] = f->items[--f->n];
        else
            i++;
    if (DPS_GROW (f->items, f->n, f->capacity))
        return -1;
    f->items[f->n++] = c;
    return 0;
}

/* Micro-batches of `size` places among n places of an epoch from `first`. */
static DpsStatus add_places (DpsFeed *feed, uint64_t epoch, uint64_t first, uint64_t n, uint64_t size, Front *f, double *tokens,
                             DpsError *err)
{
    for (uint64_t i = 0; i < n; i += size) {
        Counts c = {0};
        for (uint64_t k = i; k < n && k < i + size; k++)
            DPS_TRY (dps_feed_count (feed, epoch, first + k, &c, err));
        *tokens += (double)c.tokens;
        if (c.scored && add (f, c))
            return dps_fail (err, DPS_ERR_NOMEM, "plan: out of memory");
    }
    return DPS_OK;
}

/* The most a micro-batch can be, when not each of them is looked at. */
static DpsStatus add_bound (DpsTrainer *t, DpsFeed *feed, int64_t size, Front *f, DpsError *err)
{
    Counts c = dps_feed_most (feed);
    if (c.tokens == 0)
        return dps_fail (err, DPS_ERR_USAGE, "%s: rows of files this large are not read ahead, so the plan needs a max_length",
                         dps_recipe_where (t->recipe, DPS_KEY_max_length));
    c = (Counts){c.tokens * size, c.scored * size, c.segments * size, c.sequences * size, c.roots * size};
    return add (f, c) ? dps_fail (err, DPS_ERR_NOMEM, "plan: out of memory") : DPS_OK;
}

/* Units of answers that are not there yet: the longest prompt with the longest answers. */
static DpsStatus add_sampled (DpsTrainer *t, int64_t size, Front *f, DpsError *err)
{
    const uint32_t unit = t->objective->info.unit;
    int64_t prompt = dps_feed_most (t->feed).tokens, answer = t->recipe->max_completion_length;
    int64_t n = unit == DPS_UNIT_GROUP ? (int64_t)t->rollout.samples : unit == DPS_UNIT_PAIR ? 2 : 1;
    if (prompt == 0)
        return dps_fail (err, DPS_ERR_USAGE, "%s: prompts of files this large are not read ahead, so the plan needs a max_prompt_length",
                         dps_recipe_where (t->recipe, DPS_KEY_max_prompt_length));
    Counts c = {(prompt + n * answer) * size, n * answer * size, (n + (n > 1)) * size, n * size, size};
    t->plan.tokens_per_step = (double)(prompt + n * answer) * (double)dps__units_per_step (t);
    return add (f, c) ? dps_fail (err, DPS_ERR_NOMEM, "plan: out of memory") : DPS_OK;
}

/* Every micro-batch of the run, in order. Of runs beyond this many steps the most that can be. */
enum { MAX_STEPS_READ = 100000 };

static DpsStatus list_micro_batches (DpsTrainer *t, int64_t micro_batch, Front *f, DpsError *err)
{
    double tokens = 0;
    if (t->rollout.samples)
        return add_sampled (t, micro_batch, f, err);
    if (!t->plan.exact)
        return add_bound (t, t->feed, micro_batch, f, err);
    uint64_t steps = t->plan.steps < MAX_STEPS_READ ? t->plan.steps : MAX_STEPS_READ;
    for (uint64_t step = 0; step < steps; step++) {
        DpsStepPlace at;
        DPS_TRY (dps__trainer_place (t, step, &at, err));
        DPS_TRY (add_places (t->feed, at.epoch, at.first, at.n, (uint64_t)micro_batch, f, &tokens, err));
    }
    t->plan.tokens_per_step = tokens / (double)steps;
    return steps < t->plan.steps ? add_bound (t, t->feed, micro_batch, f, err) : DPS_OK;
}

static DpsStatus list_evaluation (DpsTrainer *t, Front *f, DpsError *err)
{
    uint64_t places;
    double tokens = 0;
    if (!t->eval_feed || t->rollout.samples) /* prompts are answered, which plan_sampling measures */
        return DPS_OK;
    if (!t->eval_exact)
        return add_bound (t, t->eval_feed, t->recipe->per_device_eval_batch_size, f, err);
    DPS_TRY (dps_feed_places (t->eval_feed, 0, &places, err));
    return add_places (t->eval_feed, 0, 0, places, (uint64_t)t->recipe->per_device_eval_batch_size, f, &tokens, err);
}

static uint64_t most (uint64_t a, uint64_t b) { return a > b ? a : b; }

static DpsStatus measure (DpsTrainer *t, DpsWeights *w, const Front *f, int training, int checkpointing, DpsError *err)
{
    const int scores = dps__trainer_scores (t);
    for (size_t i = 0; i < f->n; i++) {
        const Counts *c = &f->items[i];
        DpsForward counts = {.n_tokens = c->tokens,
                             .n_segments = c->segments,
                             .n_roots = c->roots,
                             .n_scored = c->scored,
                             .logprobs = !scores,
                             .scores = scores,
                             .values = dps__trainer_values (t)};
        DpsPassOptions o = {.training = training, .checkpoint = checkpointing};
        uint64_t peak, scratch;
        DPS_TRY (dps_pass_measure (w, &counts, &o, &peak, &scratch, err));
        t->plan.scratch = scratch > t->plan.scratch ? scratch : t->plan.scratch;
        if (peak > t->plan.arena) {
            t->plan.arena = peak;
            t->plan.tokens = c->tokens;
            t->plan.scored = c->scored;
            t->plan.rows = c->sequences;
        }
    }
    return DPS_OK;
}

/* What was sampled stays until it is trained: ids, weights, log-probs, up to 8 signals in double precision. */
enum { SAMPLED_TOKEN_BYTES = 4 * 4 + DPS_PLACE_SIGNALS * 8 };

/* The counts of what will be sampled are not known, and best fit may need a few KiB more for less. */
enum { SLACK_BYTES = 64 << 10 };

/* The longest prompt with the longest answer. */
static uint64_t judged_tokens (const DpsTrainer *t)
{
    const uint64_t prompt = (uint64_t)dps_feed_most (t->feed).tokens,
                   held_out = t->eval_feed ? (uint64_t)dps_feed_most (t->eval_feed).tokens : 0;
    return most (prompt, held_out) + (uint64_t)t->recipe->max_completion_length;
}

DpsStatus dps__trainer_reserve (DpsTrainer *t, DpsError *err)
{
    uint64_t bytes;
    DPS_TRY (dps_exec_reserve (&t->session.ex, t->plan.arena, err));
    DPS_TRY (dps_exec_reserve_scratch (&t->session.ex, t->plan.scratch, err));
    return t->rollout.samples ? dps_rewards_plan (t->rollout.rewards, judged_tokens (t), 1, &bytes, err) : DPS_OK;
}

/* Sampling, for rollouts and for evaluations: it shares the arena; its cache comes and goes. */
static DpsStatus plan_sampling (DpsTrainer *t, DpsWeights *w, DpsError *err)
{
    const DpsRollout *o = &t->rollout;
    const uint64_t prompt = (uint64_t)dps_feed_most (t->feed).tokens, prompts = o->prompts * o->steps;
    const uint64_t tokens = prompt + (uint64_t)t->recipe->max_completion_length;
    DpsGenerateOptions options;
    DpsGenerateBytes bytes, held_out = {0};
    dps__answers_options (t, (size_t)o->samples, 0, &options);
    DPS_TRY (dps_generate_measure (w, prompt, prompts, &options, &bytes, err));
    if (t->eval_feed) {
        int greedy;
        size_t answers = dps__answers_held_out (t, &greedy);
        dps__answers_options (t, answers, greedy, &options);
        DPS_TRY (dps_generate_measure (w, (size_t)dps_feed_most (t->eval_feed).tokens, (size_t)t->recipe->per_device_eval_batch_size,
                                       &options, &held_out, err));
    }
    t->plan.arena = most (t->plan.arena, most (bytes.arena, held_out.arena)) + SLACK_BYTES;
    t->plan.scratch = most (t->plan.scratch, most (bytes.scratch, held_out.scratch));
    t->plan.rollout =
        most (bytes.cache, held_out.cache) + prompts * o->samples * tokens * SAMPLED_TOKEN_BYTES + dps__rollout_start_bytes (t);
    return dps_rewards_plan (t->rollout.rewards, judged_tokens (t), 0, &t->plan.rewards, err);
}

static DpsStatus plan_arena (DpsTrainer *t, int64_t micro_batch, int checkpointing, DpsError *err)
{
    Front training = {0}, evaluation = {0};
    DpsWeights outline;
    DPS_TRY (dps_weights_outline (&outline, &t->session.ex, &t->session.model, t->session.compute, DPS_WEIGHTS_TRAINING, err));
    t->plan.arena = 0;
    DpsStatus st = dps_optim_measure (&t->optim, &outline, &t->plan.scratch, err);
    if (st == DPS_OK)
        st = list_micro_batches (t, micro_batch, &training, err);
    if (st == DPS_OK)
        st = list_evaluation (t, &evaluation, err);
    if (st == DPS_OK)
        st = measure (t, &outline, &training, 1, checkpointing, err);
    if (st == DPS_OK && dps__reference_wanted (t)) /* without adjoints a micro-batch is laid out otherwise */
        st = measure (t, &outline, &training, 0, 0, err);
    if (st == DPS_OK)
        st = measure (t, &outline, &evaluation, 0, 0, err);
    if (st == DPS_OK && t->rollout.samples)
        st = plan_sampling (t, &outline, err);
    if (st == DPS_OK)
        st = dps__critic_measure (t, training.items, training.n, checkpointing, &t->plan.value_model, err);
    t->plan.value_model += t->critic.arena + t->critic.scratch;
    t->plan.staging = dps_exec_staging (&t->session.ex);
    t->arena_exact = !t->rollout.samples && t->plan.exact && t->plan.steps <= MAX_STEPS_READ && !training.dropped && !evaluation.dropped;
    dps_free (training.items);
    dps_free (evaluation.items);
    dps_weights_free (&outline);
    t->plan.micro_batch = micro_batch;
    t->plan.checkpointing = checkpointing;
    return st;
}

uint64_t dps_train_plan_total (const DpsTrainPlan *p)
{
    return p->weights_rows + p->weights_quantised + p->weights_packed + p->weights_packed_grad + p->masters + p->gradients + p->optimizer +
           p->arena + p->scratch + p->staging + p->rollout + p->rewards + p->value_model + p->fixed;
}

typedef struct SizeText {
    char s[32];
} SizeText;

/* "1.50 GiB", "212.4 MiB", "6 bytes". */
static SizeText size_text (uint64_t bytes)
{
    SizeText t;
    if (bytes < 1u << 20)
        snprintf (t.s, sizeof t.s, "%llu bytes", (unsigned long long)bytes);
    else if (bytes < 1u << 30)
        snprintf (t.s, sizeof t.s, "%.1f MiB", (double)bytes / 0x1p20);
    else
        snprintf (t.s, sizeof t.s, "%.2f GiB", (double)bytes / 0x1p30);
    return t;
}

/* Checkpointing first, then ever smaller micro-batches: rows per step stay what the recipe says. */
static DpsStatus fit (DpsTrainer *t, uint64_t budget, DpsError *err)
{
    int64_t rows = (int64_t)dps__units_per_step (t);
    for (int64_t size = dps__units_per_micro_batch (t); size >= 1; size--) {
        if (rows % size)
            continue;
        for (int checkpointing = 0; checkpointing < 2; checkpointing++) {
            DPS_TRY (plan_arena (t, size, checkpointing, err));
            if (dps_train_plan_total (&t->plan) <= budget) {
                t->plan.accumulation = rows / size;
                return DPS_OK;
            }
        }
    }
    return dps_fail (err, DPS_ERR_LIMIT,
                     "plan: the least this run needs is %s, with one row at a time and checkpointing; the budget is %s. Hint: %s",
                     size_text (dps_train_plan_total (&t->plan)).s, size_text (budget).s,
                     budget < 1u << 20 ? "a number without a unit is bytes; write 6GiB"
                                       : "a shorter max_length, fewer lora_target_modules or a smaller model");
}

/* Of places that are one sequence each: a place of several rows or answers does not say how long its longest is. */
static void warn_of_positions (const DpsTrainer *t)
{
    const int samples = t->rollout.samples > 0, known = samples || (t->objective->info.unit == DPS_UNIT_SINGLE && t->plan.exact);
    const int64_t longest = dps_feed_most (t->feed).tokens + (samples ? t->recipe->max_completion_length : 0);
    const int64_t limit = t->session.model.dec.max_position;
    if (known && t->recipe->packing <= 0 && longest > limit)
        dps_log (
            DPS_LOG_WARNING,
            "%s of up to %lld tokens, and this model was made for %lld (max_position_embeddings): it has not learned what comes later. "
            "Hint: a shorter %s",
            samples ? "prompts with answers" : "rows", (long long)longest, (long long)limit,
            samples ? "max_prompt_length or max_completion_length" : "max_length");
}

DpsStatus dps__trainer_plan (DpsTrainer *t, uint64_t budget, DpsError *err)
{
    DpsTrainPlan *p = &t->plan;
    DpsWeightBytes bytes;
    const DpsDecoder *d = &t->session.model.dec;
    DPS_TRY (dps_weights_measure (&t->session.ex, &t->session.model, t->session.compute, DPS_WEIGHTS_TRAINING,
                                  dps_optim_moments (&t->optim), &bytes, err));
    p->weights_rows = bytes.rows;
    p->weights_packed = bytes.packed_forward;
    p->weights_packed_grad = bytes.packed_grad;
    p->weights_quantised = bytes.quantised;
    p->quantised_numbers = bytes.quantised_numbers;
    p->masters = bytes.master;
    p->gradients = bytes.gradients;
    p->optimizer = bytes.optimizer;
    p->dtype = dps_dtype_name (t->session.compute);
    p->device = t->session.ex.devices[0].info.name;
    const int64_t units = (int64_t)dps__units_per_step (t), size = dps__units_per_micro_batch (t);
    p->accumulation = (units + size - 1) / size;
    p->answers = t->rollout.samples && t->objective->info.unit == DPS_UNIT_GROUP ? (int64_t)t->rollout.samples : 1;
    DPS_TRY (budget ? fit (t, budget, err) : plan_arena (t, size, t->recipe->gradient_checkpointing > 0, err));
    double scored = p->tokens ? (double)p->scored / (double)p->tokens : 0;
    p->flops_per_step =
        p->tokens_per_step * (4 * dps_model_linear_params (&t->session.model) + 4 * scored * (double)d->vocab * (double)d->hidden);
    t->checkpointing = p->checkpointing;
    warn_of_positions (t);
    return DPS_OK;
}

/* More than was planned was refused where it happened (DpsExec.sealed). */
DpsStatus dps__trainer_check_peak (const DpsTrainer *t, DpsError *err)
{
    const DpsExec *ex = &t->session.ex;
    int whole = t->arena_exact && !t->resumed && !t->eval_feed;
    if (whole && ex->arena_peak != t->plan.arena)
        return dps_fail (err, DPS_ERR_INTERNAL, "train: %llu bytes of the arena were used, %llu were planned",
                         (unsigned long long)ex->arena_peak, (unsigned long long)t->plan.arena);
    dps_log (DPS_LOG_DEBUG, "arena: %llu bytes used of %llu planned", (unsigned long long)ex->arena_peak,
             (unsigned long long)t->plan.arena);
    dps_log (DPS_LOG_DEBUG, "copies for other devices: %llu bytes used of %llu planned", (unsigned long long)dps_exec_staged (ex),
             (unsigned long long)t->plan.staging);
    struct rusage u;
    if (getrusage (RUSAGE_SELF, &u) == 0)
        dps_log (DPS_LOG_DEBUG, "memory: %llu bytes resident at most, %llu planned, %llu of them fixed",
                 (unsigned long long)u.ru_maxrss * 1024, (unsigned long long)dps_train_plan_total (&t->plan),
                 (unsigned long long)t->plan.fixed);
    return DPS_OK;
}

DpsStatus dps_train_plan (const DpsRegistry *reg, DpsRecipe *recipe, const DpsTrainOptions *o, uint64_t budget, DpsTrainPlan *out,
                          DpsError *err)
{
    DpsTrainer t;
    DPS_TRY (dps__trainer_open (&t, reg, recipe, o, 1, err));
    DpsStatus st = dps__trainer_plan (&t, budget, err);
    *out = t.plan;
    dps__trainer_close (&t);
    return st;
}
