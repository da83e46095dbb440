/* The type BodyReader: what is known of a model's requests before any comes. */
#include "bodies.h"

#include <stdlib.h>
#include <string.h>

static int compare_texts(const char *first, size_t first_length, const char *second, size_t second_length)
{
    if (first_length != second_length) {
        return first_length < second_length ? -1 : 1;
    }
    return memcmp(first, second, first_length);
}

int name_is(const Name *name, const Piece *piece)
{
    return name->length == piece->length && memcmp(name->text, piece->start, name->length) == 0;
}

Py_ssize_t find_feature(const BodyReader *reader, const Piece *name, Py_ssize_t guess)
{
    if (guess < reader->feature_count && name_is(&reader->features[guess].name, name)) {
        return guess;
    }
    Py_ssize_t low = 0, high = reader->feature_count;
    while (low < high) {
        const Py_ssize_t middle = (low + high) / 2, index = reader->sorted[middle];
        const Name *other = &reader->features[index].name;
        const int order = compare_texts(name->start, name->length, other->text, other->length);
        if (order == 0) {
            return index;
        }
        if (order < 0) {
            high = middle;
        } else {
            low = middle + 1;
        }
    }
    return -1;
}

/* Own `object`, a str, as a name. */
static int take_name(Name *name, PyObject *object)
{
    Py_ssize_t length = 0;
    if (object == NULL || !PyUnicode_Check(object)) {
        PyErr_SetString(PyExc_TypeError, "a name must be a str");
        return -1;
    }
    name->text = PyUnicode_AsUTF8AndSize(object, &length);
    if (name->text == NULL) {
        return -1;
    }
    name->object = Py_NewRef(object);
    name->length = (size_t)length;
    return 0;
}

static int take_features(BodyReader *reader, PyObject *names, const char *kinds)
{
    for (Py_ssize_t i = 0; i < reader->feature_count; i++) {
        Feature *feature = &reader->features[i];
        if (kinds[i] == '\0' || strchr("fibsFIBS", kinds[i]) == NULL) {
            PyErr_SetString(PyExc_ValueError, "a kind is one of f, i, b, s, in upper case where nullable");
            return -1;
        }
        if (take_name(&feature->name, PyTuple_GetItem(names, i)) < 0) {
            return -1;
        }
        feature->kind = (char)(kinds[i] | 0x20);
        feature->nullable = kinds[i] < 'a';
        feature->place = feature->kind == 's' ? reader->text_count++ : reader->number_count++;
    }
    return 0;
}

/* Sort the features by name, by insertion: once for each model. */
static void sort_features(BodyReader *reader)
{
    for (Py_ssize_t i = 0; i < reader->feature_count; i++) {
        const Name *name = &reader->features[i].name;
        Py_ssize_t low = 0, high = i;
        while (low < high) {
            const Py_ssize_t middle = (low + high) / 2;
            const Name *other = &reader->features[reader->sorted[middle]].name;
            if (compare_texts(name->text, name->length, other->text, other->length) < 0) {
                high = middle;
            } else {
                low = middle + 1;
            }
        }
        memmove(&reader->sorted[low + 1], &reader->sorted[low], (size_t)(i - low) * sizeof *reader->sorted);
        reader->sorted[low] = i;
    }
}

/* BodyReader(names: tuple of str, kinds: bytes, model: str, outputs: tuple of str, most_rows: int)
 * Kinds are one byte a feature: f Float, i Integer, b Boolean, s String, in upper case where nullable. */
static PyObject *reader_new(PyTypeObject *type, PyObject *arguments, PyObject *keywords)
{
    PyObject *names, *kinds, *model, *outputs;
    Py_ssize_t most_rows;
    if (keywords != NULL && PyDict_Size(keywords) != 0) {
        PyErr_SetString(PyExc_TypeError, "BodyReader takes arguments by position");
        return NULL;
    }
    if (!PyArg_ParseTuple(arguments, "OOOOn", &names, &kinds, &model, &outputs, &most_rows)) {
        return NULL;
    }
    if (!PyTuple_Check(names) || !PyBytes_Check(kinds) || !PyTuple_Check(outputs) || most_rows < 1 ||
        PyTuple_Size(names) < 1 || PyTuple_Size(names) > INT32_MAX || PyBytes_Size(kinds) != PyTuple_Size(names) ||
        most_rows > PY_SSIZE_T_MAX / 32 / PyTuple_Size(names)) {
        PyErr_SetString(PyExc_ValueError, "names, kinds, outputs or the number of rows are not what they must be");
        return NULL;
    }
    PyObject *self = ((allocfunc)PyType_GetSlot(type, Py_tp_alloc))(type, 0); /* zeroed */
    if (self == NULL) {
        return NULL;
    }
    BodyReader *reader = (BodyReader *)self;
    const Py_ssize_t output_count = PyTuple_Size(outputs);
    reader->most_rows = most_rows;
    reader->feature_count = PyTuple_Size(names);
    reader->features = calloc((size_t)reader->feature_count, sizeof *reader->features);
    reader->sorted = calloc((size_t)reader->feature_count, sizeof *reader->sorted);
    reader->outputs = calloc((size_t)output_count + 1, sizeof *reader->outputs);
    if (reader->features == NULL || reader->sorted == NULL || reader->outputs == NULL) {
        Py_DECREF(self);
        return PyErr_NoMemory();
    }
    reader->output_count = output_count;
    reader->missing = PyFloat_FromDouble(NAN);
    int failed = reader->missing == NULL || take_name(&reader->model, model) < 0 ||
                 take_features(reader, names, PyBytes_AsString(kinds)) < 0;
    for (Py_ssize_t i = 0; i < output_count && !failed; i++) {
        failed = take_name(&reader->outputs[i], PyTuple_GetItem(outputs, i)) < 0;
    }
    if (failed) {
        Py_DECREF(self);
        return NULL;
    }
    sort_features(reader);
    return self;
}

static void reader_free(PyObject *self)
{
    BodyReader *reader = (BodyReader *)self;
    PyTypeObject *type = Py_TYPE(self);
    for (Py_ssize_t i = 0; reader->features != NULL && i < reader->feature_count; i++) {
        Py_XDECREF(reader->features[i].name.object);
    }
    for (Py_ssize_t i = 0; i < reader->output_count; i++) {
        Py_XDECREF(reader->outputs[i].object);
    }
    Py_XDECREF(reader->model.object);
    Py_XDECREF(reader->missing);
    free(reader->features);
    free(reader->sorted);
    free(reader->outputs);
    ((freefunc)PyType_GetSlot(type, Py_tp_free))(self);
    Py_DECREF(type);
}

/* Read a body by itself -> (rows, numbers: bytearray, texts: tuple of lists, wanted, id), or None. */
static PyObject *read_alone(PyObject *self, PyObject *body, ReadBody read)
{
    if (!PyBytes_Check(body)) {
        return Py_NewRef(Py_None);
    }
    Decoded decoded;
    Asked asked = {NULL, NULL};
    PyObject *result = NULL;
    int taken = decoded_open(&decoded, (const BodyReader *)self, 1);
    if (taken == TAKEN) {
        decoded.alone = 1;
        taken = read(&decoded, PyBytes_AsString(body), PyBytes_Size(body), &asked);
    }
    if (taken == TAKEN && decoded_close(&decoded) == TAKEN) {
        result = Py_BuildValue("nOOOO", decoded.rows, decoded.numbers, decoded.texts, asked.wanted, asked.id);
    } else if (taken == SLOW) {
        result = Py_NewRef(Py_None);
    }
    decoded_free(&decoded);
    asked_free(&asked);
    return result;
}

/* read_v1(body: bytes) -> (rows, numbers: bytearray, texts: tuple of lists, probabilities: bool, None), or None */
static PyObject *read_v1(PyObject *self, PyObject *body)
{
    return read_alone(self, body, read_v1_body);
}

/* read_v2(body: bytes) -> (rows, numbers: bytearray, texts: tuple of lists, outputs: tuple of str or None,
 * id: str or None), or None */
static PyObject *read_v2(PyObject *self, PyObject *body)
{
    return read_alone(self, body, read_v2_body);
}

static PyMethodDef methods[] = {
    {"read_v1", read_v1, METH_O, NULL},
    {"read_v2", read_v2, METH_O, NULL},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot type_slots[] = {
    {Py_tp_new, reader_new},
    {Py_tp_dealloc, reader_free},
    {Py_tp_methods, methods},
    {0, NULL},
};

static PyType_Spec type_spec = {
    .name = "solera_native.BodyReader",
    .basicsize = sizeof(BodyReader),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = type_slots,
};

int is_body_reader(PyObject *object)
{
    return PyType_GetSlot(Py_TYPE(object), Py_tp_dealloc) == (void *)reader_free;
}

PyObject *body_reader_type(void)
{
    return PyType_FromSpec(&type_spec);
}
