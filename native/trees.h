/* The flat form of trees, and the walk through it. */
#ifndef SOLERA_TREES_H
#define SOLERA_TREES_H

#include "kernels.h"

/* A node in 16 bytes. The right child stands after the left one. A leaf is its own left child with the
 * threshold +infinity: walking on from it stays there, so that several walks can go on in step. */
typedef struct {
    double threshold;
    uint32_t left;
    uint32_t feature;
} TreeNode;

/* Flags of a node. */
enum {
    MISSING_LEFT = 1, /* NaN goes to the left child; set for leaves */
    CATEGORICAL = 2,  /* `place` is a row of `categories`; the threshold is not used */
};

enum { REFUSES_MISSING = 1, REFUSES_INFINITE = 2 };

/* Categories that go left and that go right, one bit each; all others go where NaN goes. */
typedef struct {
    uint32_t left[8];
    uint32_t right[8];
} Categories;

/* The form of small trees for several rows, see masks.c: rows at once, and the bounds of a tree. */
enum { MASKED_ROWS = 16, MASKED_LEAVES = 64, MASKED_WIDTH = 16 };

typedef struct {
    double threshold;
    int64_t kept; /* a bit for each leaf that stays with a row that goes right */
    uint32_t feature;
    uint32_t missing_left;
} MaskedNode;

typedef struct {
    size_t first_node, first_leaf;
    uint32_t nodes, leaves;
} MaskedTree;

/* left[row] = the set of leaves that stay, for a tree's nodes and rows of x, transposed: (features, MASKED_ROWS). */
typedef void LeavesLeft(const MaskedNode *node, uint32_t count, const double *x, int missing, uint64_t *left);

typedef struct {
    MaskedTree *trees; /* (tree_count,); NULL where some tree has not this form */
    MaskedNode *nodes; /* tree by tree */
    double *values;    /* (leaves, width), tree by tree, from left to right */
    Py_ssize_t fewest; /* rows for which this is quicker than walking */
    LeavesLeft *leaves_left;
} Masked;

typedef struct {
    TreeNode *nodes;        /* (node_count,) */
    uint8_t *flags;         /* (node_count,) */
    uint32_t *place;        /* (node_count,): a leaf's row of `values`, a categorical node's row of `categories` */
    double *values;         /* (value_rows, width) */
    Categories *categories; /* (category_rows,) */
    uint32_t *roots;        /* (tree_count,) */
    uint32_t *offsets;      /* (tree_count,): the first output that a tree's values are added to */
    double *start;          /* (outputs,): what the sums begin with */
    double divisor;         /* of the sums */
    Py_ssize_t node_count, value_rows, width, category_rows, tree_count, outputs, features;
    int single;      /* features are rounded to float32 first */
    int refuses;     /* REFUSES_MISSING, REFUSES_INFINITE (after the rounding), both or none */
    int categorical; /* some node is CATEGORICAL */
    Masked masked;
} Forest;

/* out (n, outputs) = (start + the leaves' values, tree by tree) / divisor, for x (n, features) as
 * `forest_prepare` gives it; `missing` tells whether x holds NaN. */
void forest_score(const Forest *forest, const double *x, Py_ssize_t n, int missing, double *out);

/* out (n, trees) = the value of the leaf of each tree, for a width of 1. */
void forest_each(const Forest *forest, const double *x, Py_ssize_t n, int missing, double *out);

/* Look at `count` values of x; where the forest is `single`, copy them to `to`, rounded. Return -1, or the index of
 * the first value that is refused; set *missing where there is a NaN. */
Py_ssize_t forest_prepare(const Forest *forest, const double *x, Py_ssize_t count, double *to, int *missing);

/* Make the masked form of a checked forest where it has one: 0, or -1 without memory. */
int masks_make(Forest *forest);
void masks_free(Masked *masked);

/* Add the leaves' values to `out` as forest_score does, for the first rows of x; return how many: the others (few, or
 * all where there is no masked form) are left to a walk. */
Py_ssize_t masks_score(const Forest *forest, const double *x, Py_ssize_t n, int missing, double *out);

/* Add a leaf's values to a row's sums. */
static inline void trees_add(const double *values, Py_ssize_t width, double *sums)
{
    if (width == 1) {
        sums[0] += values[0];
        return;
    }
    if (width == 2) {
        sums[0] += values[0];
        sums[1] += values[1];
        return;
    }
    for (Py_ssize_t i = 0; i < width; i++) {
        sums[i] += values[i];
    }
}

PyObject *trees_type(void);

#endif
