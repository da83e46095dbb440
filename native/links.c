/* Elementwise functions that numpy has not, or not with these bits. */
#include "kernels.h"

#include <math.h>

/* expit(values: float64 (n,), out: float64 (n,)): out = 1 / (1 + exp(-values)), as scipy computes it. */
PyObject *expit(PyObject *Py_UNUSED(module), PyObject *const *arguments, Py_ssize_t count)
{
    Array values, out;
    PyObject *result = NULL;
    if (arguments_check("expit", count, 2) < 0 || array_open(&values, arguments[0], 'd', 1, READ, "values") < 0) {
        return NULL;
    }
    if (array_open(&out, arguments[1], 'd', 1, WRITE, "out") < 0) {
        PyBuffer_Release(&values.buffer);
        return NULL;
    }
    if (out.rows != values.rows) {
        PyErr_SetString(PyExc_ValueError, "values and out have different lengths");
    } else {
        const double *from = values.buffer.buf;
        double *to = out.buffer.buf;
        for (Py_ssize_t i = 0; i < values.rows; i++) {
            to[i] = 1.0 / (1.0 + exp(-from[i]));
        }
        result = Py_NewRef(Py_None);
    }
    PyBuffer_Release(&out.buffer);
    PyBuffer_Release(&values.buffer);
    return result;
}
