/*
 * From parsed JSON to a matrix: lists of Python numbers become float64, by each feature's kind.
 *
 * The kinds are one byte a feature: f Float, i Integer, b Boolean, t DateTime, s String; in upper case where
 * the feature may be missing (null). What is not plainly right stops the filling: the caller then goes the slow
 * way, which decides again and words the error. So nothing here explains anything. A DateTime is always slow
 * (but for null), and so are integers that float64 may round.
 *
 * The matrix has a column for each feature that is not String, in order. The values of the k-th String feature
 * are appended to the k-th list of `texts`, NaN where missing.
 */
#include "kernels.h"

#include <math.h>
#include <string.h>

#define LARGEST_INTEGER 9007199254740992LL /* 2^53 */

/* Where the values of one call go. */
typedef struct {
    Array numbers;       /* float64 (rows, columns) */
    const char *kinds;
    Py_ssize_t features;
    PyObject *texts;     /* tuple of lists */
    PyObject *missing;   /* a float NaN, for texts */
} Target;

enum { SLOW = 0, TAKEN = 1, FAILED = -1 };

/* Take an int within what float64 holds exactly. */
static int take_integer(PyObject *value, double *out)
{
    int overflow = 0;
    const long long number = PyLong_AsLongLongAndOverflow(value, &overflow);
    if (overflow != 0 || number > LARGEST_INTEGER || number < -LARGEST_INTEGER) {
        return SLOW;
    }
    *out = (double)number;
    return TAKEN;
}

/* Take the value of a feature that is not String: TAKEN, or SLOW. `value` NULL is an absent one. */
static int take_number(PyObject *value, char kind, double *out)
{
    const int nullable = kind < 'a';
    const char type = nullable ? (char)(kind + ('a' - 'A')) : kind;
    if (value == NULL || value == Py_None) {
        *out = NAN;
        return nullable ? TAKEN : SLOW;
    }
    if (PyFloat_CheckExact(value)) {
        const double number = PyFloat_AsDouble(value);
        *out = number;
        if (isnan(number)) {
            return nullable ? TAKEN : SLOW;
        }
        if (type == 'i') {
            return number == rint(number) && fabs(number) <= (double)LARGEST_INTEGER ? TAKEN : SLOW;
        }
        return type == 'f' ? TAKEN : SLOW;
    }
    if (PyLong_CheckExact(value)) {
        return type == 'f' || type == 'i' ? take_integer(value, out) : SLOW;
    }
    if (type == 'b' && (value == Py_True || value == Py_False)) {
        *out = value == Py_True ? 1.0 : 0.0;
        return TAKEN;
    }
    return SLOW;
}

/* Append the value of a String feature to its list: TAKEN, SLOW, or FAILED with an exception. */
static int take_text(PyObject *value, char kind, PyObject *list, PyObject *missing)
{
    if (value == NULL || value == Py_None) {
        if (kind != 'S') {
            return SLOW;
        }
        value = missing;
    } else if (!PyUnicode_CheckExact(value)) {
        return SLOW;
    }
    return PyList_Append(list, value) < 0 ? FAILED : TAKEN;
}

/* Take the values of one row, given by `get(source, feature)`, into row `row` of the matrix. Return the number
 * of features if all were taken, otherwise the first that was not; -1 with an exception. */
typedef PyObject *(*Getter)(const void *source, Py_ssize_t feature);

static inline Py_ssize_t take_row(Target *target, Py_ssize_t row, Getter get, const void *source)
{
    double *out = (double *)target->numbers.buffer.buf + row * target->numbers.columns;
    Py_ssize_t text = 0;
    for (Py_ssize_t feature = 0; feature < target->features; feature++) {
        const char kind = target->kinds[feature];
        PyObject *value = get(source, feature);
        if (value == NULL && PyErr_Occurred()) {
            return -1;
        }
        int taken;
        if (kind == 's' || kind == 'S') {
            PyObject *list = PyTuple_GetItem(target->texts, text++); /* as many as `open_target` counted */
            taken = list == NULL ? FAILED : take_text(value, kind, list, target->missing);
        } else {
            taken = take_number(value, kind, out++);
        }
        if (taken != TAKEN) {
            return taken == SLOW ? feature : -1;
        }
    }
    return target->features;
}

/* Open the matrix and the lists, and see that they fit the kinds and the number of rows. */
static int open_target(Target *target, PyObject *kinds, PyObject *numbers, PyObject *texts, Py_ssize_t rows)
{
    if (!PyBytes_Check(kinds) || !PyTuple_Check(texts)) {
        PyErr_SetString(PyExc_TypeError, "kinds must be bytes, and texts a tuple of lists");
        return -1;
    }
    target->kinds = PyBytes_AsString(kinds);
    target->features = PyBytes_Size(kinds);
    target->texts = texts;
    Py_ssize_t text_features = 0;
    for (Py_ssize_t feature = 0; feature < target->features; feature++) {
        if (target->kinds[feature] == '\0' || strchr("fibtsFIBTS", target->kinds[feature]) == NULL) {
            PyErr_SetString(PyExc_ValueError, "a kind is one of f, i, b, t, s, in upper case where nullable");
            return -1;
        }
        text_features += (target->kinds[feature] | 0x20) == 's';
    }
    for (Py_ssize_t i = 0; i < PyTuple_Size(texts); i++) {
        if (!PyList_CheckExact(PyTuple_GetItem(texts, i))) {
            PyErr_SetString(PyExc_TypeError, "texts must be a tuple of lists");
            return -1;
        }
    }
    if (array_open(&target->numbers, numbers, 'd', 2, WRITE, "numbers") < 0) {
        return -1;
    }
    target->missing = PyFloat_FromDouble(NAN);
    if (target->missing == NULL || PyTuple_Size(texts) != text_features || target->numbers.rows != rows ||
        target->numbers.columns != target->features - text_features) {
        if (target->missing != NULL) {
            PyErr_SetString(PyExc_ValueError, "numbers or texts do not fit the kinds and the number of rows");
        }
        Py_XDECREF(target->missing);
        PyBuffer_Release(&target->numbers.buffer);
        return -1;
    }
    return 0;
}

static PyObject *close_target(Target *target, Py_ssize_t answer)
{
    Py_DECREF(target->missing);
    PyBuffer_Release(&target->numbers.buffer);
    return answer == -2 ? NULL : PyLong_FromSsize_t(answer);
}

static PyObject *from_list(const void *source, Py_ssize_t feature)
{
    return PyList_GetItem((PyObject *)(uintptr_t)source, feature);
}

/* fill_rows(rows: list of lists of one value a feature, kinds: bytes, numbers, texts) -> int */
PyObject *fill_rows(PyObject *Py_UNUSED(module), PyObject *const *arguments, Py_ssize_t count)
{
    Target target;
    if (arguments_check("fill_rows", count, 4) < 0) {
        return NULL;
    }
    PyObject *rows = arguments[0];
    if (!PyList_CheckExact(rows)) {
        PyErr_SetString(PyExc_TypeError, "rows must be a list");
        return NULL;
    }
    const Py_ssize_t n = PyList_Size(rows);
    if (open_target(&target, arguments[1], arguments[2], arguments[3], n) < 0) {
        return NULL;
    }
    for (Py_ssize_t i = 0; i < n; i++) {
        PyObject *row = PyList_GetItem(rows, i);
        Py_ssize_t taken = 0;
        if (PyList_CheckExact(row) && PyList_Size(row) == target.features) {
            taken = take_row(&target, i, from_list, row);
        }
        if (taken != target.features) {
            return close_target(&target, taken < 0 ? -2 : i * target.features + taken);
        }
    }
    return close_target(&target, -1);
}

/* A row as a dict, and the names of the features in order. */
typedef struct {
    PyObject *row;
    PyObject *names;
    Py_ssize_t found;
} Record;

static PyObject *from_record(const void *source, Py_ssize_t feature)
{
    Record *record = (Record *)(uintptr_t)source;
    PyObject *value = PyDict_GetItemWithError(record->row, PyTuple_GetItem(record->names, feature));
    record->found += value != NULL;
    return value;
}

/* fill_records(rows: list of dicts by feature name, names: tuple of str, kinds, numbers, texts) -> int
 * A name that a dict lacks is missing; a dict with a name that no feature has is slow. */
PyObject *fill_records(PyObject *Py_UNUSED(module), PyObject *const *arguments, Py_ssize_t count)
{
    Target target;
    if (arguments_check("fill_records", count, 5) < 0) {
        return NULL;
    }
    PyObject *rows = arguments[0];
    PyObject *names = arguments[1];
    if (!PyList_CheckExact(rows) || !PyTuple_Check(names)) {
        PyErr_SetString(PyExc_TypeError, "rows must be a list, and names a tuple");
        return NULL;
    }
    const Py_ssize_t n = PyList_Size(rows);
    if (open_target(&target, arguments[2], arguments[3], arguments[4], n) < 0) {
        return NULL;
    }
    if (PyTuple_Size(names) != target.features) {
        PyErr_SetString(PyExc_ValueError, "there must be one name for each kind");
        return close_target(&target, -2);
    }
    for (Py_ssize_t i = 0; i < n; i++) {
        Record record = {PyList_GetItem(rows, i), names, 0};
        Py_ssize_t taken = 0;
        if (PyDict_CheckExact(record.row)) {
            taken = take_row(&target, i, from_record, &record);
        }
        if (taken != target.features) {
            return close_target(&target, taken < 0 ? -2 : i * target.features + taken);
        }
        if (record.found != PyDict_Size(record.row)) {
            return close_target(&target, i * target.features);
        }
    }
    return close_target(&target, -1);
}

/* Values of all rows in one list, row after row. */
typedef struct {
    PyObject *values;
    Py_ssize_t start;
} Slice;

static PyObject *from_slice(const void *source, Py_ssize_t feature)
{
    const Slice *slice = source;
    return PyList_GetItem(slice->values, slice->start + feature);
}

/* fill_values(values: list of rows x features values, kinds, numbers, texts) -> int */
PyObject *fill_values(PyObject *Py_UNUSED(module), PyObject *const *arguments, Py_ssize_t count)
{
    Target target;
    if (arguments_check("fill_values", count, 4) < 0) {
        return NULL;
    }
    PyObject *values = arguments[0];
    if (!PyList_CheckExact(values) || !PyBytes_Check(arguments[1]) || PyBytes_Size(arguments[1]) == 0) {
        PyErr_SetString(PyExc_TypeError, "values must be a list, and kinds bytes that are not empty");
        return NULL;
    }
    const Py_ssize_t features = PyBytes_Size(arguments[1]);
    const Py_ssize_t n = PyList_Size(values) / features;
    if (n * features != PyList_Size(values)) {
        PyErr_SetString(PyExc_ValueError, "the number of values is not a multiple of the number of features");
        return NULL;
    }
    if (open_target(&target, arguments[1], arguments[2], arguments[3], n) < 0) {
        return NULL;
    }
    for (Py_ssize_t i = 0; i < n; i++) {
        const Slice slice = {values, i * features};
        const Py_ssize_t taken = take_row(&target, i, from_slice, &slice);
        if (taken != features) {
            return close_target(&target, taken < 0 ? -2 : i * features + taken);
        }
    }
    return close_target(&target, -1);
}

/* fill_column(values: list, kind: bytes of one kind that is not String, numbers: float64 (rows, columns),
 * column: int) -> int: the values of one feature into a column of the matrix. */
PyObject *fill_column(PyObject *Py_UNUSED(module), PyObject *const *arguments, Py_ssize_t count)
{
    Array numbers;
    if (arguments_check("fill_column", count, 4) < 0) {
        return NULL;
    }
    PyObject *values = arguments[0];
    PyObject *kind = arguments[1];
    const Py_ssize_t column = PyLong_AsSsize_t(arguments[3]);
    if (column == -1 && PyErr_Occurred()) {
        return NULL;
    }
    if (!PyList_CheckExact(values) || !PyBytes_Check(kind) || PyBytes_Size(kind) != 1 ||
        PyBytes_AsString(kind)[0] == '\0' || strchr("fibtFIBT", PyBytes_AsString(kind)[0]) == NULL) {
        PyErr_SetString(PyExc_TypeError, "values must be a list, and kind one of f, i, b, t or these in upper case");
        return NULL;
    }
    if (array_open(&numbers, arguments[2], 'd', 2, WRITE, "numbers") < 0) {
        return NULL;
    }
    const Py_ssize_t n = PyList_Size(values);
    Py_ssize_t answer = -1;
    if (numbers.rows != n || column < 0 || column >= numbers.columns) {
        PyErr_SetString(PyExc_ValueError, "numbers has not this column, or another number of rows");
        answer = -2;
    } else {
        double *out = (double *)numbers.buffer.buf + column;
        for (Py_ssize_t i = 0; i < n && answer == -1; i++) {
            if (take_number(PyList_GetItem(values, i), PyBytes_AsString(kind)[0], out + i * numbers.columns) != TAKEN) {
                answer = i;
            }
        }
    }
    PyBuffer_Release(&numbers.buffer);
    return answer == -2 ? NULL : PyLong_FromSsize_t(answer);
}
