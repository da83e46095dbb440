/* Linear models: sums in one fixed order, so that the rows around a row never change its result. */
#include "kernels.h"

#include <math.h>

/* out[i] = (x[i][0] * w[0] + x[i][1] * w[1] + ...) + intercept for one output; x is (n, k). Four rows at a
 * time: each has its own sum, and the processor overlaps them. */
static void one_output(const double *x, const double *w, double intercept, double *out, Py_ssize_t n, Py_ssize_t k)
{
    Py_ssize_t i = 0;
    for (; i + 4 <= n; i += 4) {
        const double *row = x + i * k;
        double a = 0.0, b = 0.0, c = 0.0, d = 0.0;
        for (Py_ssize_t j = 0; j < k; j++) {
            a += row[j] * w[j];
            b += row[k + j] * w[j];
            c += row[2 * k + j] * w[j];
            d += row[3 * k + j] * w[j];
        }
        out[i] = a + intercept;
        out[i + 1] = b + intercept;
        out[i + 2] = c + intercept;
        out[i + 3] = d + intercept;
    }
    for (; i < n; i++) {
        double a = 0.0;
        for (Py_ssize_t j = 0; j < k; j++) {
            a += x[i * k + j] * w[j];
        }
        out[i] = a + intercept;
    }
}

/* The same for c outputs: w is (k, c), intercept (c,), out (n, c). The inner loop runs over the outputs, whose
 * sums are independent. */
static void outputs(const double *x, const double *w, const double *intercept, double *out, Py_ssize_t n,
                    Py_ssize_t k, Py_ssize_t c)
{
    for (Py_ssize_t i = 0; i < n; i++) {
        double *restrict sums = out + i * c;
        for (Py_ssize_t o = 0; o < c; o++) {
            sums[o] = 0.0;
        }
        for (Py_ssize_t j = 0; j < k; j++) {
            const double value = x[i * k + j];
            const double *restrict weights = w + j * c;
            for (Py_ssize_t o = 0; o < c; o++) {
                sums[o] += value * weights[o];
            }
        }
        for (Py_ssize_t o = 0; o < c; o++) {
            sums[o] += intercept[o];
        }
    }
}

/* Scale a row: z = (x - shift) / divisor. Whether all of x are smaller than the bound in size. */
static int scale(const double *x, const double *shift, const double *divisor, double *restrict z, Py_ssize_t k,
                 double bound)
{
    int calm = 1;
    for (Py_ssize_t j = 0; j < k; j++) {
        calm &= fabs(x[j]) < bound;
        z[j] = (x[j] - shift[j]) / divisor[j];
    }
    return calm;
}

/* scaled_linear(x: float64 (n, k), shift: (k,), divisor: (k,), weights: (k, c), intercept: (c,), bound: float,
 * out: (n, c)): linear of (x - shift) / divisor -> whether all of x and of out are smaller than the bound in size. */
PyObject *scaled_linear(PyObject *Py_UNUSED(module), PyObject *const *arguments, Py_ssize_t count)
{
    static const char *const NAMES[] = {"x", "shift", "divisor", "weights", "intercept", "bound", "out"};
    static const int DIMENSIONS[] = {2, 1, 1, 2, 1, 0, 2};
    enum { X, SHIFT, DIVISOR, WEIGHTS, INTERCEPT, BOUND, OUT, COUNT };
    Array arrays[COUNT];
    PyObject *result = NULL;
    double *scaled = NULL;
    int opened = 0;
    if (arguments_check("scaled_linear", count, COUNT) < 0) {
        return NULL;
    }
    const double bound = PyFloat_AsDouble(arguments[BOUND]);
    if (bound == -1.0 && PyErr_Occurred()) {
        return NULL;
    }
    for (; opened < COUNT; opened++) {
        const int access = opened == OUT ? WRITE : READ;
        if (opened != BOUND &&
            array_open(&arrays[opened], arguments[opened], 'd', DIMENSIONS[opened], access, NAMES[opened]) < 0) {
            goto close;
        }
    }
    const Py_ssize_t n = arrays[X].rows, k = arrays[X].columns, c = arrays[WEIGHTS].columns;
    if (arrays[SHIFT].rows != k || arrays[DIVISOR].rows != k || arrays[WEIGHTS].rows != k ||
        arrays[INTERCEPT].rows != c || arrays[OUT].rows != n || arrays[OUT].columns != c) {
        PyErr_SetString(PyExc_ValueError, "the shapes of scaled_linear's arrays do not fit together");
        goto close;
    }
    scaled = PyMem_Malloc((size_t)(k > 0 ? k : 1) * sizeof(double));
    if (scaled == NULL) {
        PyErr_NoMemory();
        goto close;
    }
    const double *x = arrays[X].buffer.buf, *w = arrays[WEIGHTS].buffer.buf, *b = arrays[INTERCEPT].buffer.buf;
    double *out = arrays[OUT].buffer.buf;
    int calm = 1;
    PyThreadState *state = n * k * c > STEPS_WITHOUT_THREADS ? PyEval_SaveThread() : NULL;
    for (Py_ssize_t i = 0; i < n; i++) {
        calm &= scale(x + i * k, arrays[SHIFT].buffer.buf, arrays[DIVISOR].buffer.buf, scaled, k, bound);
        if (c == 1) {
            one_output(scaled, w, b[0], out + i, 1, k);
        } else {
            outputs(scaled, w, b, out + i * c, 1, k, c);
        }
    }
    for (Py_ssize_t i = 0; i < n * c; i++) {
        calm &= fabs(out[i]) < bound;
    }
    if (state != NULL) {
        PyEval_RestoreThread(state);
    }
    result = PyBool_FromLong(calm);
close:
    PyMem_Free(scaled);
    while (opened-- > 0) {
        if (opened != BOUND) {
            PyBuffer_Release(&arrays[opened].buffer);
        }
    }
    return result;
}

/* linear(x: float64 (n, k), weights: float64 (k, c), intercept: float64 (c,), out: float64 (n, c)) */
PyObject *linear(PyObject *Py_UNUSED(module), PyObject *const *arguments, Py_ssize_t count)
{
    Array x, weights, intercept, out;
    PyObject *result = NULL;
    if (arguments_check("linear", count, 4) < 0 || array_open(&x, arguments[0], 'd', 2, READ, "x") < 0) {
        return NULL;
    }
    if (array_open(&weights, arguments[1], 'd', 2, READ, "weights") < 0) {
        goto close_x;
    }
    if (array_open(&intercept, arguments[2], 'd', 1, READ, "intercept") < 0) {
        goto close_weights;
    }
    if (array_open(&out, arguments[3], 'd', 2, WRITE, "out") < 0) {
        goto close_intercept;
    }
    const Py_ssize_t n = x.rows, k = x.columns, c = weights.columns;
    if (weights.rows != k || intercept.rows != c || out.rows != n || out.columns != c) {
        PyErr_SetString(PyExc_ValueError, "x (n, k), weights (k, c), intercept (c,) and out (n, c) do not fit together");
        goto close_out;
    }
    PyThreadState *state = n * k * c > STEPS_WITHOUT_THREADS ? PyEval_SaveThread() : NULL;
    if (c == 1) {
        one_output(x.buffer.buf, weights.buffer.buf, *(const double *)intercept.buffer.buf, out.buffer.buf, n, k);
    } else {
        outputs(x.buffer.buf, weights.buffer.buf, intercept.buffer.buf, out.buffer.buf, n, k, c);
    }
    if (state != NULL) {
        PyEval_RestoreThread(state);
    }
    result = Py_NewRef(Py_None);
close_out:
    PyBuffer_Release(&out.buffer);
close_intercept:
    PyBuffer_Release(&intercept.buffer);
close_weights:
    PyBuffer_Release(&weights.buffer);
close_x:
    PyBuffer_Release(&x.buffer);
    return result;
}
