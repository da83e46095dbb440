/*
 * Scoring several rows with small trees, without walking.
 *
 * A set of a tree's leaves, in their order from left to right, is 64 bits. Each inner node takes from a row's set
 * the leaves below its left child where the row goes right. Whatever the order of the nodes, the first leaf that
 * stays is the one that a walk would reach: those left of it were taken by nodes on its path. So the nodes need
 * not wait for each other, and one node is compared with as many rows at once as the processor takes.
 * (Lucchese and others, "QuickScorer", SIGIR 2015.)
 *
 * A walk looks at as many nodes as the tree is deep, this at all of them: hence the bound of 64 leaves.
 */
#include "trees.h"

#include <stdlib.h>
#include <string.h>

/* A few trees are not worth a transposed copy of the rows. */
#define FEWEST_TREES 4

#define LANES 2
static void leaves_left(const MaskedNode *node, uint32_t count, const double *x, int missing, uint64_t *left)
#include "masks_lanes.h"

#if defined(__x86_64__) && !defined(SOLERA_WITHOUT_AVX2)
#define HAS_AVX2 __builtin_cpu_supports("avx2")
#define LANES 4
__attribute__((target("avx2"))) static void leaves_left_avx2(const MaskedNode *node, uint32_t count, const double *x,
                                                             int missing, uint64_t *left)
#include "masks_lanes.h"
#else
#define HAS_AVX2 0
#define leaves_left_avx2 leaves_left
#endif

/* Choose the function, and the fewest rows for which it is quicker than a walk, as measured: the time of a walk goes
 * by the rows, that of this by the nodes, for up to MASKED_ROWS rows. 0 where a walk is always quicker. */
static int choose(Masked *masked, size_t nodes)
{
    const int wide = HAS_AVX2;
    masked->leaves_left = wide ? leaves_left_avx2 : leaves_left;
    masked->fewest = 4 + (Py_ssize_t)nodes / (wide ? 8 : 4);
    return masked->fewest <= 12;
}

/* Number the leaves below `at`, append their rows of values, and the inner nodes: 0, or -1 where the tree has not
 * this form. `tree` counts what it has so far. */
static int take_nodes(Forest *forest, MaskedTree *tree, uint32_t at, int depth)
{
    const TreeNode *node = &forest->nodes[at];
    const uint8_t flags = forest->flags[at];
    const uint32_t begin = tree->leaves;
    if (node->left == at) {
        if (begin == MASKED_LEAVES) {
            return -1;
        }
        memcpy(forest->masked.values + (tree->first_leaf + begin) * forest->width,
               forest->values + forest->place[at] * forest->width, (size_t)forest->width * sizeof(double));
        tree->leaves++;
        return 0;
    }
    if (depth == MASKED_LEAVES || (flags & CATEGORICAL) || take_nodes(forest, tree, node->left, depth + 1) < 0 ||
        tree->leaves == MASKED_LEAVES) {
        return -1;
    }
    const uint64_t taken = ((UINT64_C(1) << (tree->leaves - begin)) - 1) << begin;
    forest->masked.nodes[tree->first_node + tree->nodes] =
        (MaskedNode){node->threshold, (int64_t)~taken, node->feature, flags & MISSING_LEFT};
    tree->nodes++;
    return take_nodes(forest, tree, node->left + 1, depth + 1);
}

void masks_free(Masked *masked)
{
    free(masked->trees);
    free(masked->nodes);
    free(masked->values);
    *masked = (Masked){0};
}

int masks_make(Forest *forest)
{
    Masked *masked = &forest->masked;
    const size_t trees = (size_t)forest->tree_count, room = trees * MASKED_LEAVES;
    if (trees < FEWEST_TREES || (size_t)forest->node_count > 2 * room || forest->width > MASKED_WIDTH) {
        return 0;
    }
    masked->trees = malloc(trees * sizeof(MaskedTree));
    masked->nodes = malloc(room * sizeof(MaskedNode));
    masked->values = malloc(room * (size_t)forest->width * sizeof(double));
    if (masked->trees == NULL || masked->nodes == NULL || masked->values == NULL) {
        return -1;
    }
    MaskedTree next = {0};
    for (size_t i = 0; i < trees; i++) {
        MaskedTree *tree = &masked->trees[i];
        *tree = (MaskedTree){.first_node = next.first_node, .first_leaf = next.first_leaf};
        if (take_nodes(forest, tree, forest->roots[i], 0) < 0) {
            masks_free(masked);
            return 0;
        }
        next.first_node += tree->nodes;
        next.first_leaf += tree->leaves;
    }
    if (!choose(masked, next.first_node / trees)) {
        masks_free(masked);
    }
    return 0;
}

Py_ssize_t masks_score(const Forest *forest, const double *x, Py_ssize_t n, int missing, double *out)
{
    double few[64 * MASKED_ROWS];
    const Py_ssize_t features = forest->features, width = forest->width;
    uint64_t left[MASKED_ROWS];
    Py_ssize_t begin = 0;
    if (forest->masked.trees == NULL || n < forest->masked.fewest) {
        return 0;
    }
    double *columns = features <= 64 ? few : malloc((size_t)features * MASKED_ROWS * sizeof(double));
    if (columns == NULL) {
        return 0;
    }
    for (; n - begin >= forest->masked.fewest; begin += MASKED_ROWS) {
        const Py_ssize_t rows = n - begin < MASKED_ROWS ? n - begin : MASKED_ROWS;
        for (Py_ssize_t row = 0; row < MASKED_ROWS; row++) {
            const double *from = x + (begin + (row < rows ? row : 0)) * features;
            for (Py_ssize_t feature = 0; feature < features; feature++) {
                columns[feature * MASKED_ROWS + row] = from[feature];
            }
        }
        for (Py_ssize_t i = 0; i < forest->tree_count; i++) {
            const MaskedTree *tree = &forest->masked.trees[i];
            const double *values = forest->masked.values + tree->first_leaf * width;
            double *sums = out + begin * forest->outputs + forest->offsets[i];
            forest->masked.leaves_left(forest->masked.nodes + tree->first_node, tree->nodes, columns, missing, left);
            for (Py_ssize_t row = 0; row < rows; row++, sums += forest->outputs) {
                trees_add(values + __builtin_ctzll(left[row]) * width, width, sums);
            }
        }
    }
    if (columns != few) {
        free(columns);
    }
    return begin < n ? begin : n;
}
