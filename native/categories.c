/* Categories to columns or codes: look-ups in dicts that were made when the model was compiled. */
#include "kernels.h"

#include <math.h>

/* Others get the interpreter after so many. It cannot be given up for all of the work, which is on Python's objects. */
#define LOOKUPS_WITHOUT_THREADS (STEPS_WITHOUT_THREADS / 10)

enum { FOUND, REFUSED, FAILED = -1 };

/* Look `value` up in a table (dict, missing, unknown), of which the last two may be None: refused. The reference
 * is borrowed. */
static int look_up(PyObject *table, PyObject *value, PyObject **found)
{
    *found = PyDict_GetItemWithError(PyTuple_GetItem(table, 0), value);
    if (*found != NULL) {
        return FOUND;
    }
    if (PyErr_Occurred()) {
        return FAILED;
    }
    const int missing = PyFloat_CheckExact(value) && isnan(PyFloat_AsDouble(value));
    *found = PyTuple_GetItem(table, missing ? 1 : 2);
    return *found == Py_None ? REFUSED : FOUND;
}

static int check_tables(PyObject *columns, PyObject *tables, PyObject *sources, Py_ssize_t rows)
{
    int fits = PyList_CheckExact(columns) && PyTuple_CheckExact(tables) && PyTuple_CheckExact(sources) &&
               PyTuple_Size(tables) == PyTuple_Size(sources);
    for (Py_ssize_t i = 0; fits && i < PyList_Size(columns); i++) {
        PyObject *column = PyList_GetItem(columns, i);
        fits = PyList_CheckExact(column) && PyList_Size(column) == rows;
    }
    for (Py_ssize_t i = 0; fits && i < PyTuple_Size(tables); i++) {
        PyObject *table = PyTuple_GetItem(tables, i);
        fits = PyTuple_CheckExact(table) && PyTuple_Size(table) == 3 && PyDict_CheckExact(PyTuple_GetItem(table, 0));
    }
    if (!fits) {
        PyErr_SetString(PyExc_ValueError, "columns, tables and sources do not fit together, or the rows of out");
        return -1;
    }
    return 0;
}

/* Take what stands for a value into its row: 0, or -1 with an exception. */
typedef int (*Writer)(double *row, Py_ssize_t columns, Py_ssize_t column, PyObject *found);

static int write_one(double *row, Py_ssize_t columns, Py_ssize_t start, PyObject *found)
{
    const Py_ssize_t place = PyLong_AsSsize_t(found);
    if (place == -1) {
        return PyErr_Occurred() ? -1 : 0; /* dropped, or unknown and ignored */
    }
    if (place < 0 || place >= columns - start) {
        PyErr_SetString(PyExc_ValueError, "a category's column is outside out");
        return -1;
    }
    row[start + place] = 1.0;
    return 0;
}

static int write_code(double *row, Py_ssize_t columns, Py_ssize_t column, PyObject *found)
{
    if (!PyFloat_CheckExact(found) || column >= columns) {
        PyErr_SetString(PyExc_ValueError, "a category's code is no float, or its column outside out");
        return -1;
    }
    row[column] = PyFloat_AsDouble(found);
    return 0;
}

/* Write what a table says of a column from the column `start` of out on. `count` is of all look-ups so far. Whoever
 * runs in between may change the column, though nobody should: so it is held, its values too, and its end looked at. */
static int encode_column(PyObject *table, PyObject *column, const Array *out, Py_ssize_t start, Writer write,
                         Py_ssize_t *count)
{
    int state = FOUND;
    PyObject *found;
    Py_INCREF(column);
    for (Py_ssize_t row = 0; state == FOUND && row < out->rows; row++) {
        if (++*count % LOOKUPS_WITHOUT_THREADS == 0) {
            PyEval_RestoreThread(PyEval_SaveThread());
        }
        PyObject *value = Py_XNewRef(PyList_GetItem(column, row));
        state = value == NULL ? FAILED : look_up(table, value, &found);
        Py_XDECREF(value);
        double *to = (double *)out->buffer.buf + row * out->columns;
        if (state == FOUND && write(to, out->columns, start, found) < 0) {
            state = FAILED;
        }
    }
    Py_DECREF(column);
    return state;
}

/* Arguments: columns, tables, sources, out, start. The k-th table takes the column sources[k], and `step` says
 * whether it writes from column start or from column start + k on. */
static PyObject *encode(PyObject *const *arguments, Writer write, int step)
{
    PyObject *columns = arguments[0], *tables = arguments[1], *sources = arguments[2];
    Array out;
    const Py_ssize_t start = PyLong_AsSsize_t(arguments[4]);
    if ((start == -1 && PyErr_Occurred()) || array_open(&out, arguments[3], 'd', 2, WRITE, "out") < 0) {
        return NULL;
    }
    int state = FAILED;
    if (start < 0 || start > out.columns) {
        PyErr_SetString(PyExc_ValueError, "start is no column of out");
    } else if (check_tables(columns, tables, sources, out.rows) == 0) {
        state = FOUND;
    }
    for (Py_ssize_t k = 0, count = 0; state == FOUND && k < PyTuple_Size(tables); k++) {
        const Py_ssize_t source = PyLong_AsSsize_t(PyTuple_GetItem(sources, k));
        PyObject *column = PyList_GetItem(columns, source); /* raises where there is none */
        state = column == NULL
                    ? FAILED
                    : encode_column(PyTuple_GetItem(tables, k), column, &out, start + k * step, write, &count);
    }
    PyBuffer_Release(&out.buffer);
    return state == FAILED ? NULL : PyBool_FromLong(state == FOUND);
}

/* one_hot(columns: list of lists, tables: tuple of (dict, missing, unknown) with columns of ones or -1 for none,
 * sources: tuple of int, out: float64 (rows, columns), start: int) -> bool: False where a value is refused. */
PyObject *one_hot(PyObject *Py_UNUSED(module), PyObject *const *arguments, Py_ssize_t count)
{
    return arguments_check("one_hot", count, 5) < 0 ? NULL : encode(arguments, write_one, 0);
}

/* category_codes: the same with tables of floats, each into its own column. */
PyObject *category_codes(PyObject *Py_UNUSED(module), PyObject *const *arguments, Py_ssize_t count)
{
    return arguments_check("category_codes", count, 5) < 0 ? NULL : encode(arguments, write_code, 1);
}
