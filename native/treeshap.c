/* Path-dependent TreeSHAP in one walk of each tree.
 *
 * For a leaf with the value v, let each feature i on its path have the share z_i of the training rows that take
 * the path's branches on i, and o_i, 1 where the row takes them itself and 0 otherwise. The leaf's part in the
 * Shapley value of i is
 *
 *     v (o_i - z_i) * integral from 0 to 1 of the product over j != i of (z_j (1 - t) + o_j t) dt
 *
 * since the Shapley weights are Beta integrals. The integrand is a polynomial in t, so that a Gauss-Legendre rule
 * of half as many points as there are features on the path is exact; all its terms are positive, so that nothing
 * cancels. On the way down a walk keeps the products at each point, on the way up the sums over the leaves below.
 */
#include "kernels.h"

/* The deepest tree that is explained: a walk takes about 240 bytes of the stack for each level. */
#define DEEPEST 1000

typedef struct {
    /* the forest */
    const int32_t *left, *right, *feature, *groups;
    const double *ratio, *values;
    Py_ssize_t nodes, leaves, features, width, outputs, depth;
    /* the tree */
    Py_ssize_t order, column;
    const double *points, *weights;
    /* the row, and where its results go */
    const uint8_t *goes_left;
    double *out, *direct;
    /* Of the branches taken so far: z and o for each feature, and whether it was met. */
    double *share, *taken;
    uint8_t *met;
    /* For each depth: products (order), scratch (order), sums (width, order). */
    double *levels;
} Walk;

/* The factor of a feature at a point. Never 0 but for branches that no training row and not this row takes. */
static inline double factor(double share, double taken, double point)
{
    return share * (1.0 - point) + taken * point;
}

/* Add to the feature's group what the leaves with these sums contribute when the feature stands at z and o. */
static void contribute(const Walk *walk, int32_t feature, double share, double taken, double sign,
                       const double *sums, double *scratch)
{
    const double scale = sign * (taken - share);
    if (scale == 0.0) {
        return;
    }
    for (Py_ssize_t q = 0; q < walk->order; q++) {
        scratch[q] = scale * walk->weights[q] / factor(share, taken, walk->points[q]);
    }
    double *out = walk->out + walk->groups[feature] * walk->outputs + walk->column;
    for (Py_ssize_t c = 0; c < walk->width; c++) {
        double sum = 0.0;
        for (Py_ssize_t q = 0; q < walk->order; q++) {
            sum += scratch[q] * sums[c * walk->order + q];
        }
        out[c] += sum;
    }
}

static void visit(const Walk *walk, int32_t node, Py_ssize_t depth, int here);

/* Walk one branch of a node; `here` says that the row itself gets to the child. */
static void branch(const Walk *walk, int32_t node, int32_t child, Py_ssize_t depth, int goes, int here)
{
    const Py_ssize_t order = walk->order, level = order * (2 + walk->width);
    const double *products = walk->levels + depth * level;
    double *scratch = walk->levels + depth * level + order, *sums = scratch + order;
    double *below = walk->levels + (depth + 1) * level, *below_sums = below + 2 * order;
    const int32_t feature = walk->feature[node];
    const double old_share = walk->share[feature], old_taken = walk->taken[feature];
    const uint8_t met = walk->met[feature];
    const double share = old_share * walk->ratio[child], taken = goes ? old_taken : 0.0;
    for (Py_ssize_t q = 0; q < order; q++) {
        const double t = walk->points[q], old = factor(old_share, old_taken, t);
        below[q] = old > 0.0 ? products[q] / old * factor(share, taken, t) : 0.0;
    }
    walk->share[feature] = share;
    walk->taken[feature] = taken;
    walk->met[feature] = 1;
    visit(walk, child, depth + 1, here);
    walk->share[feature] = old_share;
    walk->taken[feature] = old_taken;
    walk->met[feature] = met;
    contribute(walk, feature, share, taken, 1.0, below_sums, scratch);
    if (met) {
        /* The branch above on the same feature counts these leaves too, and should not. */
        contribute(walk, feature, old_share, old_taken, -1.0, below_sums, scratch);
    }
    for (Py_ssize_t i = 0; i < walk->width * order; i++) {
        sums[i] += below_sums[i];
    }
}

static void visit(const Walk *walk, int32_t node, Py_ssize_t depth, int here)
{
    const Py_ssize_t order = walk->order, width = walk->width;
    const double *products = walk->levels + depth * order * (2 + width);
    double *sums = walk->levels + depth * order * (2 + width) + 2 * order;
    if (walk->left[node] < 0) {
        const double *values = walk->values + walk->right[node] * width;
        for (Py_ssize_t c = 0; c < width; c++) {
            for (Py_ssize_t q = 0; q < order; q++) {
                sums[c * order + q] = values[c] * products[q];
            }
            if (here) {
                walk->direct[walk->column + c] += values[c];
            }
        }
        return;
    }
    for (Py_ssize_t i = 0; i < width * order; i++) {
        sums[i] = 0.0;
    }
    const int goes = walk->goes_left[node];
    branch(walk, node, walk->left[node], depth, goes, here && goes);
    branch(walk, node, walk->right[node], depth, !goes, here && !goes);
}

/* Whether what the walk relies on is so: every index of the forest lies in its range, no node is two nodes' child or
 * two trees' root (so that a walk ends, and sees each node once), and no tree is deeper than was said. `level` has a
 * zero for each node, and gets one more than its depth. */
static int forest_is_sound(const Walk *walk, const Array *trees, uint16_t *level)
{
    for (Py_ssize_t i = 0; i < trees->rows; i++) {
        const int32_t root = ((const int32_t *)trees->buffer.buf)[4 * i];
        if (level[root] != 0) {
            return 0;
        }
        level[root] = 1;
    }
    for (Py_ssize_t i = 0; i < walk->nodes; i++) {
        const int32_t left = walk->left[i], right = walk->right[i], feature = walk->feature[i];
        if (left < 0) {
            if (right < 0 || right >= walk->leaves) {
                return 0;
            }
            continue;
        }
        if (left <= i || right <= i || left >= walk->nodes || right >= walk->nodes || left == right || feature < 0 ||
            feature >= walk->features || level[left] != 0 || level[right] != 0 || level[i] > walk->depth) {
            return 0;
        }
        level[left] = level[right] = (uint16_t)(level[i] + 1);
    }
    return 1;
}

enum { GOES_LEFT, LEFT, RIGHT, FEATURE, RATIO, VALUES, TREES, POINTS, GROUPS, OUT, DIRECT, ARRAYS };

static const struct {
    const char *name;
    char format;
    int dimensions, access;
} EXPECTED[ARRAYS] = {
    {"goes_left", 'B', 2, READ}, {"left", 'i', 1, READ},   {"right", 'i', 1, READ},  {"feature", 'i', 1, READ},
    {"ratio", 'd', 1, READ},     {"values", 'd', 2, READ}, {"trees", 'i', 2, READ},  {"points", 'd', 2, READ},
    {"groups", 'i', 1, READ},    {"out", 'd', 2, WRITE},   {"direct", 'd', 2, WRITE},
};

/* Whether the arrays fit together; the largest order of a tree goes to `order`. */
static int shapes_fit(const Array *arrays, const Walk *walk, Py_ssize_t *order)
{
    const Py_ssize_t nodes = walk->nodes, rows = arrays[GOES_LEFT].rows, width = walk->width;
    if (arrays[GOES_LEFT].columns != nodes || arrays[RIGHT].rows != nodes || arrays[FEATURE].rows != nodes ||
        arrays[RATIO].rows != nodes || arrays[TREES].columns != 4 || arrays[POINTS].rows != 2 ||
        arrays[OUT].rows != rows || arrays[DIRECT].rows != rows || walk->outputs == 0 ||
        arrays[OUT].columns % walk->outputs != 0) {
        return 0;
    }
    const Py_ssize_t groups = arrays[OUT].columns / walk->outputs;
    for (Py_ssize_t i = 0; i < walk->features; i++) {
        if (walk->groups[i] < 0 || walk->groups[i] >= groups) {
            return 0;
        }
    }
    *order = 1;
    for (Py_ssize_t i = 0; i < arrays[TREES].rows; i++) {
        const int32_t *tree = (const int32_t *)arrays[TREES].buffer.buf + 4 * i;
        if (tree[0] < 0 || tree[0] >= nodes || tree[1] < 0 || tree[1] + width > walk->outputs || tree[2] < 0 ||
            tree[3] < 1 || tree[3] > arrays[POINTS].columns - tree[2]) {
            return 0;
        }
        *order = tree[3] > *order ? tree[3] : *order;
    }
    return 1;
}

/* Walk all trees for all rows. */
static void walk_rows(const Array *arrays, Walk *walk)
{
    for (Py_ssize_t row = 0; row < arrays[GOES_LEFT].rows; row++) {
        walk->goes_left = (const uint8_t *)arrays[GOES_LEFT].buffer.buf + row * walk->nodes;
        walk->out = (double *)arrays[OUT].buffer.buf + row * arrays[OUT].columns;
        walk->direct = (double *)arrays[DIRECT].buffer.buf + row * walk->outputs;
        for (Py_ssize_t i = 0; i < arrays[TREES].rows; i++) {
            const int32_t *tree = (const int32_t *)arrays[TREES].buffer.buf + 4 * i;
            walk->column = tree[1];
            walk->points = (const double *)arrays[POINTS].buffer.buf + tree[2];
            walk->weights = walk->points + arrays[POINTS].columns;
            walk->order = tree[3];
            for (Py_ssize_t q = 0; q < walk->order; q++) {
                walk->levels[q] = 1.0;
            }
            visit(walk, tree[0], 0, 1);
        }
    }
}

static PyObject *explain(const Array *arrays, Py_ssize_t depth)
{
    Walk walk = {
        .left = arrays[LEFT].buffer.buf,
        .right = arrays[RIGHT].buffer.buf,
        .feature = arrays[FEATURE].buffer.buf,
        .groups = arrays[GROUPS].buffer.buf,
        .ratio = arrays[RATIO].buffer.buf,
        .values = arrays[VALUES].buffer.buf,
        .nodes = arrays[LEFT].rows,
        .leaves = arrays[VALUES].rows,
        .features = arrays[GROUPS].rows,
        .width = arrays[VALUES].columns,
        .outputs = arrays[DIRECT].columns,
        .depth = depth,
    };
    Py_ssize_t order;
    if (depth < 0 || depth > DEEPEST || !shapes_fit(arrays, &walk, &order)) {
        PyErr_SetString(PyExc_ValueError, "the arrays of the forest do not fit together");
        return NULL;
    }
    uint16_t *level = PyMem_Calloc((size_t)walk.nodes + 1, sizeof(uint16_t));
    if (level == NULL) {
        return PyErr_NoMemory();
    }
    const int sound = forest_is_sound(&walk, &arrays[TREES], level);
    PyMem_Free(level);
    if (!sound) {
        PyErr_SetString(PyExc_ValueError, "the nodes are no trees, or are deeper than was said");
        return NULL;
    }
    const size_t levels = (size_t)(depth + 1) * (size_t)order * (size_t)(2 + walk.width);
    double *memory = PyMem_Malloc((levels + 2 * (size_t)walk.features + 1) * sizeof(double));
    uint8_t *met = PyMem_Calloc((size_t)walk.features + 1, 1);
    if (memory == NULL || met == NULL) {
        PyMem_Free(memory);
        PyMem_Free(met);
        return PyErr_NoMemory();
    }
    walk.levels = memory;
    walk.share = memory + levels;
    walk.taken = walk.share + walk.features;
    walk.met = met;
    for (Py_ssize_t i = 0; i < 2 * walk.features; i++) {
        walk.share[i] = 1.0;
    }
    PyThreadState *state = PyEval_SaveThread();
    walk_rows(arrays, &walk);
    PyEval_RestoreThread(state);
    PyMem_Free(memory);
    PyMem_Free(met);
    return Py_NewRef(Py_None);
}

/* tree_shap(goes_left: uint8 (n, N), left, right, feature: int32 (N,), ratio: float64 (N,), values: float64 (L, w),
 * trees: int32 (T, 4), points: float64 (2, P), groups: int32 (k,), out: float64 (n, g * c), direct: float64 (n, c),
 * depth: int). kernels_shap_numpy.py says what they are. */
PyObject *tree_shap(PyObject *Py_UNUSED(module), PyObject *const *arguments, Py_ssize_t count)
{
    Array arrays[ARRAYS];
    PyObject *result = NULL;
    int opened = 0;
    if (arguments_check("tree_shap", count, ARRAYS + 1) < 0) {
        return NULL;
    }
    const Py_ssize_t depth = PyLong_AsSsize_t(arguments[ARRAYS]);
    if (depth == -1 && PyErr_Occurred()) {
        return NULL;
    }
    while (opened < ARRAYS && array_open(&arrays[opened], arguments[opened], EXPECTED[opened].format,
                                         EXPECTED[opened].dimensions, EXPECTED[opened].access,
                                         EXPECTED[opened].name) == 0) {
        opened++;
    }
    if (opened == ARRAYS) {
        result = explain(arrays, depth);
    }
    while (opened > 0) {
        PyBuffer_Release(&arrays[--opened].buffer);
    }
    return result;
}
