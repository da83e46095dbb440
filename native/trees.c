/*
 * The type Trees: a forest made from arrays, each index checked once, and kept where Python cannot reach it.
 *
 * Whatever a model file says, a walk ends and stays inside the arrays: an inner node's children come after it
 * and exist, features lie within a row, leaves and categorical nodes have their rows of values and categories.
 */
#include "trees.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
    PyObject_HEAD Forest forest;
} Trees;

/* The arrays that the constructor takes, in order. */
enum { FEATURE, THRESHOLD, LEFT, FLAGS, PLACE, VALUES, ROOTS, OFFSETS, START, CATEGORIES, PART_COUNT };

static const struct {
    const char *name;
    char format;
    int dimensions;
} PARTS[PART_COUNT] = {
    {"feature", 'i', 1}, {"threshold", 'd', 1}, {"left", 'i', 1},    {"flags", 'B', 1}, {"place", 'i', 1},
    {"values", 'd', 2},  {"roots", 'i', 1},     {"offsets", 'i', 1}, {"start", 'd', 1}, {"categories", 'I', 2},
};

static int fail(const char *message)
{
    PyErr_SetString(PyExc_ValueError, message);
    return -1;
}

/* Check one node, and copy it. */
static int take_node(Forest *forest, const Array *parts, Py_ssize_t i)
{
    const int32_t feature = ((const int32_t *)parts[FEATURE].buffer.buf)[i];
    const int32_t left = ((const int32_t *)parts[LEFT].buffer.buf)[i];
    const int32_t place = ((const int32_t *)parts[PLACE].buffer.buf)[i];
    const uint8_t flags = ((const uint8_t *)parts[FLAGS].buffer.buf)[i];
    const double threshold = ((const double *)parts[THRESHOLD].buffer.buf)[i];
    if (feature < 0 || feature >= forest->features) {
        return fail("a node's feature is out of range");
    }
    if (left == i) {
        if (threshold != INFINITY || flags != MISSING_LEFT || place < 0 || place >= forest->value_rows) {
            return fail("a leaf is not as leaves are, or has no values");
        }
    } else if (left < i || left >= forest->node_count - 1) {
        return fail("a node's children do not come after it, or do not exist");
    } else if (flags & CATEGORICAL) {
        if (place < 0 || place >= forest->category_rows) {
            return fail("a node's categories are out of range");
        }
        forest->categorical = 1;
    } else if (isnan(threshold)) {
        return fail("a threshold is not a number");
    }
    forest->nodes[i] = (TreeNode){threshold, (uint32_t)left, (uint32_t)feature};
    forest->flags[i] = flags;
    forest->place[i] = (uint32_t)place;
    return 0;
}

static int take_tree(Forest *forest, const Array *parts, Py_ssize_t i)
{
    const int32_t root = ((const int32_t *)parts[ROOTS].buffer.buf)[i];
    const int32_t offset = ((const int32_t *)parts[OFFSETS].buffer.buf)[i];
    if (root < 0 || root >= forest->node_count) {
        return fail("a tree's root is out of range");
    }
    if (offset < 0 || offset + forest->width > forest->outputs) {
        return fail("a tree adds to an output that does not exist");
    }
    forest->roots[i] = (uint32_t)root;
    forest->offsets[i] = (uint32_t)offset;
    return 0;
}

static void *copy(const Array *array)
{
    const size_t size = (size_t)array->buffer.len;
    void *memory = malloc(size > 0 ? size : 1);
    if (memory != NULL) {
        memcpy(memory, array->buffer.buf, size);
    }
    return memory;
}

/* Fill a zeroed forest. What was allocated is freed with the object, also after a failure. */
static int fill_forest(Forest *forest, const Array *parts)
{
    const Py_ssize_t nodes = parts[FEATURE].rows, trees = parts[ROOTS].rows;
    if (parts[THRESHOLD].rows != nodes || parts[LEFT].rows != nodes || parts[FLAGS].rows != nodes ||
        parts[PLACE].rows != nodes || parts[OFFSETS].rows != trees || parts[CATEGORIES].columns != 16) {
        return fail("the arrays of the nodes or of the trees have different lengths");
    }
    if (nodes == 0 || nodes > INT32_MAX || trees == 0 || parts[VALUES].columns == 0 || parts[START].rows == 0 ||
        parts[START].rows > INT32_MAX || parts[VALUES].columns > INT32_MAX || forest->features < 1) {
        return fail("there are no nodes, trees, values, outputs or features, or too many");
    }
    forest->node_count = nodes;
    forest->tree_count = trees;
    forest->value_rows = parts[VALUES].rows;
    forest->width = parts[VALUES].columns;
    forest->outputs = parts[START].rows;
    forest->category_rows = parts[CATEGORIES].rows;
    forest->nodes = malloc((size_t)nodes * sizeof(TreeNode));
    forest->flags = malloc((size_t)nodes);
    forest->place = malloc((size_t)nodes * sizeof(uint32_t));
    forest->roots = malloc((size_t)trees * sizeof(uint32_t));
    forest->offsets = malloc((size_t)trees * sizeof(uint32_t));
    forest->values = copy(&parts[VALUES]);
    forest->start = copy(&parts[START]);
    forest->categories = copy(&parts[CATEGORIES]);
    if (!forest->nodes || !forest->flags || !forest->place || !forest->roots || !forest->offsets ||
        !forest->values || !forest->start || !forest->categories) {
        PyErr_NoMemory();
        return -1;
    }
    for (Py_ssize_t i = 0; i < nodes; i++) {
        if (take_node(forest, parts, i) < 0) {
            return -1;
        }
    }
    for (Py_ssize_t i = 0; i < trees; i++) {
        if (take_tree(forest, parts, i) < 0) {
            return -1;
        }
    }
    if (masks_make(forest) < 0) {
        PyErr_NoMemory();
        return -1;
    }
    return 0;
}

static void trees_free(PyObject *object)
{
    Forest *forest = &((Trees *)object)->forest;
    PyTypeObject *type = Py_TYPE(object);
    void *owned[] = {forest->nodes, forest->flags,   forest->place, forest->roots,
                     forest->values, forest->offsets, forest->start, forest->categories};
    for (size_t i = 0; i < sizeof owned / sizeof owned[0]; i++) {
        free(owned[i]);
    }
    masks_free(&forest->masked);
    ((freefunc)PyType_GetSlot(type, Py_tp_free))(object);
    Py_DECREF(type);
}

/*
 * Trees((feature: int32 (nodes,), threshold: float64 (nodes,), left: int32 (nodes,), flags: uint8 (nodes,),
 *       place: int32 (nodes,), values: float64 (leaves, width), roots: int32 (trees,), offsets: int32 (trees,),
 *       start: float64 (outputs,), categories: uint32 (categorical nodes, 16)), divisor: float, features: int,
 *       single: bool, refuses: int)
 */
static PyObject *trees_new(PyTypeObject *type, PyObject *arguments, PyObject *keywords)
{
    PyObject *objects[PART_COUNT];
    Array parts[PART_COUNT];
    double divisor;
    Py_ssize_t features;
    int single, refuses, count = 0;
    if (keywords != NULL && PyDict_Size(keywords) != 0) {
        PyErr_SetString(PyExc_TypeError, "Trees takes arguments by position");
        return NULL;
    }
    if (!PyArg_ParseTuple(arguments, "(OOOOOOOOOO)dnpi", &objects[0], &objects[1], &objects[2], &objects[3],
                          &objects[4], &objects[5], &objects[6], &objects[7], &objects[8], &objects[9], &divisor,
                          &features, &single, &refuses)) {
        return NULL;
    }
    PyObject *self = NULL;
    for (; count < PART_COUNT; count++) {
        if (array_open(&parts[count], objects[count], PARTS[count].format, PARTS[count].dimensions, READ,
                       PARTS[count].name) < 0) {
            goto close;
        }
    }
    self = ((allocfunc)PyType_GetSlot(type, Py_tp_alloc))(type, 0); /* zeroed */
    if (self != NULL) {
        Forest *forest = &((Trees *)self)->forest;
        forest->divisor = divisor;
        forest->features = features;
        forest->single = single;
        forest->refuses = refuses;
        if (fill_forest(forest, parts) < 0) {
            Py_CLEAR(self);
        }
    }
close:
    while (count-- > 0) {
        PyBuffer_Release(&parts[count].buffer);
    }
    return self;
}

typedef void (*Run)(const Forest *forest, const double *x, Py_ssize_t n, int missing, double *out);

/* Prepare x and run: -1, or the index into x of the first value that is refused; -2 without memory. */
static Py_ssize_t prepare_and_run(const Forest *forest, const double *x, Py_ssize_t n, double *out, Run run)
{
    double few[256];
    const Py_ssize_t count = n * forest->features;
    const double *prepared = x;
    double *memory = NULL;
    int missing = 0;
    if (forest->single) {
        memory = count <= 256 ? few : malloc((size_t)count * sizeof(double));
        if (memory == NULL) {
            return -2;
        }
        prepared = memory;
    }
    const Py_ssize_t refused = forest_prepare(forest, x, count, memory, &missing);
    if (refused < 0) {
        run(forest, prepared, n, missing, out);
    }
    if (memory != few) {
        free(memory);
    }
    return refused;
}

static PyObject *predict(PyObject *self, PyObject *const *arguments, Py_ssize_t count, Run run, int each)
{
    const Forest *forest = &((const Trees *)self)->forest;
    Array x, out;
    PyObject *result = NULL;
    if (arguments_check(each ? "each" : "score", count, 2) < 0 ||
        array_open(&x, arguments[0], 'd', 2, READ, "x") < 0) {
        return NULL;
    }
    if (array_open(&out, arguments[1], 'd', 2, WRITE, "out") < 0) {
        PyBuffer_Release(&x.buffer);
        return NULL;
    }
    if (x.columns != forest->features || out.rows != x.rows ||
        out.columns != (each ? forest->tree_count : forest->outputs)) {
        PyErr_SetString(PyExc_ValueError, "x or out has not the shape that these trees take");
    } else if (each && forest->width != 1) {
        PyErr_SetString(PyExc_ValueError, "these trees have several values a leaf");
    } else {
        PyThreadState *state = x.rows * forest->tree_count > STEPS_WITHOUT_THREADS / 10 ? PyEval_SaveThread() : NULL;
        const Py_ssize_t refused = prepare_and_run(forest, x.buffer.buf, x.rows, out.buffer.buf, run);
        if (state != NULL) {
            PyEval_RestoreThread(state);
        }
        result = refused == -2 ? PyErr_NoMemory() : PyLong_FromSsize_t(refused);
    }
    PyBuffer_Release(&out.buffer);
    PyBuffer_Release(&x.buffer);
    return result;
}

/* score(x: float64 (n, features), out: float64 (n, outputs)) -> int */
static PyObject *score(PyObject *self, PyObject *const *arguments, Py_ssize_t count)
{
    return predict(self, arguments, count, forest_score, 0);
}

/* each(x: float64 (n, features), out: float64 (n, trees)) -> int */
static PyObject *each(PyObject *self, PyObject *const *arguments, Py_ssize_t count)
{
    return predict(self, arguments, count, forest_each, 1);
}

static PyMethodDef methods[] = {
    {"score", (PyCFunction)(void (*)(void))score, METH_FASTCALL, NULL},
    {"each", (PyCFunction)(void (*)(void))each, METH_FASTCALL, NULL},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot type_slots[] = {
    {Py_tp_new, trees_new},
    {Py_tp_dealloc, trees_free},
    {Py_tp_methods, methods},
    {0, NULL},
};

static PyType_Spec type_spec = {
    .name = "solera_native.Trees",
    .basicsize = sizeof(Trees),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = type_slots,
};

PyObject *trees_type(void)
{
    return PyType_FromSpec(&type_spec);
}
