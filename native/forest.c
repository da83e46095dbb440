/*
 * Walking through trees.
 *
 * A walk is a chain of loads, each waiting for the one before. So several walks go on in step: of one row through
 * several trees, or of several rows through one tree, which then stays in the nearest cache. Sums are made
 * tree by tree in either case, and begin with the same number: a row's result has the same bits alone and in
 * company. Nothing here checks an index: trees.c did, once, when the forest was made.
 */
#include "trees.h"

#include <float.h>
#include <math.h>

/* Walks in step, as measured: few trees wait for the nearest caches, many rows may hide the farther ones. */
#define TREES_IN_STEP 12
#define ROWS_IN_STEP 16

#define INLINE static inline __attribute__((always_inline))

/* Bytes of rows that are taken through all trees together: they should stay in the nearest cache. */
#define BLOCK_BYTES 16384

/* The next node of one walk; `missing` and `categorical` are constants where this is inlined. */
INLINE uint32_t step(const Forest *forest, uint32_t at, const double *row, int missing, int categorical)
{
    const TreeNode *node = &forest->nodes[at];
    const double value = row[node->feature];
    if (!missing && !categorical) {
        return node->left + !(value <= node->threshold);
    }
    const uint8_t flags = forest->flags[at];
    const uint32_t missing_right = !(flags & MISSING_LEFT);
    if (categorical && (flags & CATEGORICAL)) {
        if (!(value >= 0.0 && value < 256.0)) {
            return node->left + missing_right;
        }
        const Categories *categories = &forest->categories[forest->place[at]];
        const unsigned category = (unsigned)value;
        const uint32_t bit = 1u << (category % 32);
        const uint32_t known = (categories->left[category / 32] | categories->right[category / 32]) & bit;
        const uint32_t right = (categories->right[category / 32] & bit) != 0;
        return node->left + (known ? right : missing_right);
    }
    return node->left + ((value > node->threshold) | ((value != value) & missing_right));
}

/* Walk one row through `TREES_IN_STEP` trees, or through fewer (the lanes left over repeat the last tree). */
INLINE void walk_trees(const Forest *forest, const double *row, Py_ssize_t first, uint32_t *at, int missing,
                       int categorical)
{
    uint32_t moved;
    for (int lane = 0; lane < TREES_IN_STEP; lane++) {
        const Py_ssize_t tree = first + lane;
        at[lane] = forest->roots[tree < forest->tree_count ? tree : forest->tree_count - 1];
    }
    do {
        moved = 0;
        for (int lane = 0; lane < TREES_IN_STEP; lane++) {
            const uint32_t next = step(forest, at[lane], row, missing, categorical);
            moved |= next ^ at[lane];
            at[lane] = next;
        }
    } while (moved);
}

/* Walk `ROWS_IN_STEP` rows through one tree, or fewer (the lanes left over repeat the last row). */
INLINE void walk_rows(const Forest *forest, const double *x, Py_ssize_t rows, Py_ssize_t tree, uint32_t *at,
                      int missing, int categorical)
{
    const double *row[ROWS_IN_STEP];
    uint32_t moved;
    for (int lane = 0; lane < ROWS_IN_STEP; lane++) {
        row[lane] = x + (lane < rows ? lane : rows - 1) * forest->features;
        at[lane] = forest->roots[tree];
    }
    do {
        moved = 0;
        for (int lane = 0; lane < ROWS_IN_STEP; lane++) {
            const uint32_t next = step(forest, at[lane], row[lane], missing, categorical);
            moved |= next ^ at[lane];
            at[lane] = next;
        }
    } while (moved);
}

INLINE void add(const Forest *forest, Py_ssize_t tree, uint32_t leaf, double *sums)
{
    trees_add(forest->values + forest->place[leaf] * forest->width, forest->width, sums + forest->offsets[tree]);
}

/* Score few rows: for each, TREES_IN_STEP trees in step. */
INLINE void score_few(const Forest *forest, const double *x, Py_ssize_t n, double *out, int missing, int categorical)
{
    uint32_t at[TREES_IN_STEP];
    for (Py_ssize_t i = 0; i < n; i++) {
        const double *row = x + i * forest->features;
        double *sums = out + i * forest->outputs;
        for (Py_ssize_t tree = 0; tree < forest->tree_count; tree += TREES_IN_STEP) {
            const Py_ssize_t left = forest->tree_count - tree;
            const Py_ssize_t lanes = left < TREES_IN_STEP ? left : TREES_IN_STEP;
            walk_trees(forest, row, tree, at, missing, categorical);
            for (Py_ssize_t lane = 0; lane < lanes; lane++) {
                add(forest, tree + lane, at[lane], sums);
            }
        }
    }
}

/* Score many rows: block by block, tree by tree, ROWS_IN_STEP rows in step. */
INLINE void score_many(const Forest *forest, const double *x, Py_ssize_t n, double *out, int missing, int categorical)
{
    const Py_ssize_t fitting = BLOCK_BYTES / (Py_ssize_t)(sizeof(double) * (forest->features + forest->outputs));
    const Py_ssize_t block = fitting < ROWS_IN_STEP ? ROWS_IN_STEP : fitting - fitting % ROWS_IN_STEP;
    uint32_t at[ROWS_IN_STEP];
    for (Py_ssize_t begin = 0; begin < n; begin += block) {
        const Py_ssize_t end = n - begin < block ? n : begin + block;
        for (Py_ssize_t tree = 0; tree < forest->tree_count; tree++) {
            for (Py_ssize_t i = begin; i < end; i += ROWS_IN_STEP) {
                const Py_ssize_t rows = end - i < ROWS_IN_STEP ? end - i : ROWS_IN_STEP;
                walk_rows(forest, x + i * forest->features, rows, tree, at, missing, categorical);
                for (Py_ssize_t lane = 0; lane < rows; lane++) {
                    add(forest, tree, at[lane], out + (i + lane) * forest->outputs);
                }
            }
        }
    }
}

#define DISPATCH(call, missing)                                                                              \
    do {                                                                                                     \
        if (forest->categorical) {                                                                           \
            call(forest, x, n, out, 1, 1);                                                                   \
        } else if (missing) {                                                                                \
            call(forest, x, n, out, 1, 0);                                                                   \
        } else {                                                                                             \
            call(forest, x, n, out, 0, 0);                                                                   \
        }                                                                                                    \
    } while (0)

/* Add the leaves' values of all trees to `out`. */
static void score_by_walks(const Forest *forest, const double *x, Py_ssize_t n, int missing, double *out)
{
    if (n < ROWS_IN_STEP) {
        DISPATCH(score_few, missing);
    } else {
        DISPATCH(score_many, missing);
    }
}

void forest_score(const Forest *forest, const double *x, Py_ssize_t n, int missing, double *out)
{
    for (Py_ssize_t i = 0; i < n; i++) {
        for (Py_ssize_t output = 0; output < forest->outputs; output++) {
            out[i * forest->outputs + output] = forest->start[output];
        }
    }
    const Py_ssize_t done = masks_score(forest, x, n, missing, out);
    score_by_walks(forest, x + done * forest->features, n - done, missing, out + done * forest->outputs);
    if (forest->divisor != 1.0) {
        for (Py_ssize_t i = 0; i < n * forest->outputs; i++) {
            out[i] /= forest->divisor;
        }
    }
}

INLINE void values_of_each(const Forest *forest, const double *x, Py_ssize_t n, double *out, int missing,
                           int categorical)
{
    uint32_t at[TREES_IN_STEP];
    for (Py_ssize_t i = 0; i < n; i++) {
        for (Py_ssize_t tree = 0; tree < forest->tree_count; tree += TREES_IN_STEP) {
            const Py_ssize_t left = forest->tree_count - tree;
            const Py_ssize_t lanes = left < TREES_IN_STEP ? left : TREES_IN_STEP;
            walk_trees(forest, x + i * forest->features, tree, at, missing, categorical);
            for (Py_ssize_t lane = 0; lane < lanes; lane++) {
                out[i * forest->tree_count + tree + lane] = forest->values[forest->place[at[lane]]];
            }
        }
    }
}

void forest_each(const Forest *forest, const double *x, Py_ssize_t n, int missing, double *out)
{
    DISPATCH(values_of_each, missing);
}

Py_ssize_t forest_prepare(const Forest *forest, const double *x, Py_ssize_t count, double *to, int *missing)
{
    int any_missing = 0, any_infinite = 0;
    if (forest->single) {
        for (Py_ssize_t i = 0; i < count; i++) {
            to[i] = (double)(float)x[i];
        }
        x = to;
    }
    for (Py_ssize_t i = 0; i < count; i++) {
        any_missing |= x[i] != x[i];
        any_infinite |= fabs(x[i]) > DBL_MAX;
    }
    *missing = any_missing;
    const int refuses = (any_missing ? REFUSES_MISSING : 0) | (any_infinite ? REFUSES_INFINITE : 0);
    if ((refuses & forest->refuses) == 0) {
        return -1;
    }
    for (Py_ssize_t i = 0; i < count; i++) {
        const int refused = x[i] != x[i] ? REFUSES_MISSING : fabs(x[i]) > DBL_MAX ? REFUSES_INFINITE : 0;
        if (refused & forest->refuses) {
            return i;
        }
    }
    return -1;
}
