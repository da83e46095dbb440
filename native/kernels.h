/* What the files of solera_native share. Arrays come by the buffer protocol: no header of numpy is needed. */
#ifndef SOLERA_KERNELS_H
#define SOLERA_KERNELS_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdint.h>

/* Raised here and in kernels_numpy.py when a function's arguments or meaning change: another server takes no such
 * extension. */
#define SOLERA_INTERFACE 4

/* Work beyond about 50 microseconds lets other threads run; counted in steps of a few nanoseconds. */
#define STEPS_WITHOUT_THREADS 20000

/* An array of one kind of number, C order, with up to two dimensions. */
typedef struct {
    Py_buffer buffer;
    Py_ssize_t rows;    /* length of the first dimension */
    Py_ssize_t columns; /* of the second; 1 where there is none */
} Array;

enum { READ, WRITE };

/* Open `object` as an array of `dimensions` with the buffer format `format` ("d", "f", ...): 0, or -1 with an
 * exception. `name` is for its message. To be closed with PyBuffer_Release(&array->buffer). */
int array_open(Array *array, PyObject *object, char format, int dimensions, int access, const char *name);

/* Raise TypeError unless `given` arguments are `wanted`. */
int arguments_check(const char *function, Py_ssize_t given, Py_ssize_t wanted);

PyObject *scaled_linear(PyObject *module, PyObject *const *arguments, Py_ssize_t count);
PyObject *linear(PyObject *module, PyObject *const *arguments, Py_ssize_t count);
PyObject *calm(PyObject *module, PyObject *const *arguments, Py_ssize_t count);
PyObject *two_shares(PyObject *module, PyObject *const *arguments, Py_ssize_t count);
PyObject *distances(PyObject *module, PyObject *const *arguments, Py_ssize_t count);
PyObject *tree_shap(PyObject *module, PyObject *const *arguments, Py_ssize_t count);
PyObject *count_terms(PyObject *module, PyObject *const *arguments, Py_ssize_t count);
PyObject *weigh_terms(PyObject *module, PyObject *const *arguments, Py_ssize_t count);
PyObject *scatter(PyObject *module, PyObject *const *arguments, Py_ssize_t count);
PyObject *one_hot(PyObject *module, PyObject *const *arguments, Py_ssize_t count);
PyObject *category_codes(PyObject *module, PyObject *const *arguments, Py_ssize_t count);

#endif
