/* Distances of one row from many points, for nearest neighbours. */
#include "kernels.h"

#include <math.h>

/* Points that are summed up together: their sums stay in the nearest cache while the features go by. */
#define POINTS 1024

enum { EUCLIDEAN, MANHATTAN, CHEBYSHEV };

/* Add one feature's part to the sums of `n` points. */
static void add_feature(const double *restrict column, double value, int metric, double *restrict sums, Py_ssize_t n)
{
    if (metric == EUCLIDEAN) {
        for (Py_ssize_t i = 0; i < n; i++) {
            const double gap = column[i] - value;
            sums[i] += gap * gap;
        }
    } else if (metric == MANHATTAN) {
        for (Py_ssize_t i = 0; i < n; i++) {
            sums[i] += fabs(column[i] - value);
        }
    } else {
        for (Py_ssize_t i = 0; i < n; i++) {
            const double gap = fabs(column[i] - value);
            sums[i] = gap > sums[i] ? gap : sums[i];
        }
    }
}

/* distances(columns: float64 (features, points), row: float64 (features,), metric: int, out: float64 (points,)):
 * the distances, euclidean ones squared; each sum begins at 0.0 and takes the features in their order. */
PyObject *distances(PyObject *Py_UNUSED(module), PyObject *const *arguments, Py_ssize_t count)
{
    Array columns, row, out;
    PyObject *result = NULL;
    if (arguments_check("distances", count, 4) < 0) {
        return NULL;
    }
    const long metric = PyLong_AsLong(arguments[2]);
    if (metric < EUCLIDEAN || metric > CHEBYSHEV) {
        if (!PyErr_Occurred()) {
            PyErr_SetString(PyExc_ValueError, "metric must be 0 (euclidean), 1 (manhattan) or 2 (chebyshev)");
        }
        return NULL;
    }
    if (array_open(&columns, arguments[0], 'd', 2, READ, "columns") < 0) {
        return NULL;
    }
    if (array_open(&row, arguments[1], 'd', 1, READ, "row") < 0) {
        goto close_columns;
    }
    if (array_open(&out, arguments[3], 'd', 1, WRITE, "out") < 0) {
        goto close_row;
    }
    const Py_ssize_t features = columns.rows, points = columns.columns;
    if (row.rows != features || out.rows != points) {
        PyErr_SetString(PyExc_ValueError, "columns (features, points), row (features,), out (points,) do not fit");
        goto close_out;
    }
    const double *values = row.buffer.buf;
    PyThreadState *state = features * points > STEPS_WITHOUT_THREADS ? PyEval_SaveThread() : NULL;
    for (Py_ssize_t begin = 0; begin < points; begin += POINTS) {
        const Py_ssize_t n = points - begin < POINTS ? points - begin : POINTS;
        double *sums = (double *)out.buffer.buf + begin;
        for (Py_ssize_t i = 0; i < n; i++) {
            sums[i] = 0.0;
        }
        for (Py_ssize_t j = 0; j < features; j++) {
            add_feature((const double *)columns.buffer.buf + j * points + begin, values[j], (int)metric, sums, n);
        }
    }
    if (state != NULL) {
        PyEval_RestoreThread(state);
    }
    result = Py_NewRef(Py_None);
close_out:
    PyBuffer_Release(&out.buffer);
close_row:
    PyBuffer_Release(&row.buffer);
close_columns:
    PyBuffer_Release(&columns.buffer);
    return result;
}
