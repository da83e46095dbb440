/* Elementwise functions that numpy has not, or not with these bits. */
#include "kernels.h"

#include <math.h>

/* calm(values: float64 (n,), bound: float) -> whether all are smaller than the bound, in size; NaN is not. */
PyObject *calm(PyObject *Py_UNUSED(module), PyObject *const *arguments, Py_ssize_t count)
{
    Array values;
    if (arguments_check("calm", count, 2) < 0) {
        return NULL;
    }
    const double bound = PyFloat_AsDouble(arguments[1]);
    if ((bound == -1.0 && PyErr_Occurred()) || array_open(&values, arguments[0], 'd', 1, READ, "values") < 0) {
        return NULL;
    }
    const double *at = values.buffer.buf;
    PyThreadState *state = values.rows > STEPS_WITHOUT_THREADS ? PyEval_SaveThread() : NULL;
    int found = 1;
    for (Py_ssize_t i = 0; i < values.rows; i++) {
        found &= fabs(at[i]) < bound; /* to the end, so that the compiler can take several at once */
    }
    if (state != NULL) {
        PyEval_RestoreThread(state);
    }
    PyBuffer_Release(&values.buffer);
    return PyBool_FromLong(found);
}

/* two_shares(sums: float64 (n, 1), factor: float, out: float64 (n, 2)): out[:, 1] = 1 / (1 + exp(-factor * sums)),
 * with the C library's exponential, as scipy's expit has it; out[:, 0] = 1 - out[:, 1]. */
PyObject *two_shares(PyObject *Py_UNUSED(module), PyObject *const *arguments, Py_ssize_t count)
{
    Array sums, out;
    PyObject *result = NULL;
    if (arguments_check("two_shares", count, 3) < 0) {
        return NULL;
    }
    const double factor = PyFloat_AsDouble(arguments[1]);
    if ((factor == -1.0 && PyErr_Occurred()) || array_open(&sums, arguments[0], 'd', 2, READ, "sums") < 0) {
        return NULL;
    }
    if (array_open(&out, arguments[2], 'd', 2, WRITE, "out") < 0) {
        PyBuffer_Release(&sums.buffer);
        return NULL;
    }
    if (sums.columns != 1 || out.columns != 2 || out.rows != sums.rows) {
        PyErr_SetString(PyExc_ValueError, "sums must have one column, and out two and as many rows");
    } else {
        const double *from = sums.buffer.buf;
        double *to = out.buffer.buf;
        PyThreadState *state = sums.rows > STEPS_WITHOUT_THREADS / 10 ? PyEval_SaveThread() : NULL;
        for (Py_ssize_t i = 0; i < sums.rows; i++) {
            const double second = 1.0 / (1.0 + exp(-(factor * from[i])));
            to[2 * i] = 1.0 - second;
            to[2 * i + 1] = second;
        }
        if (state != NULL) {
            PyEval_RestoreThread(state);
        }
        result = Py_NewRef(Py_None);
    }
    PyBuffer_Release(&out.buffer);
    PyBuffer_Release(&sums.buffer);
    return result;
}
