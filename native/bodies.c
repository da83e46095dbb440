/* Batches in the making: the matrix, the texts, and the values that go there. */
#include "bodies.h"

#include <string.h>

int decoded_open(Decoded *decoded, const BodyReader *reader, Py_ssize_t room)
{
    const Py_ssize_t bytes = room * reader->number_count * (Py_ssize_t)sizeof(double);
    *decoded = (Decoded){.reader = reader,
                         .numbers = PyByteArray_FromStringAndSize(NULL, bytes),
                         .texts = PyTuple_New(reader->text_count),
                         .room = room,
                         .most_rows = reader->most_rows};
    if (decoded->numbers == NULL || decoded->texts == NULL) {
        return FAILED;
    }
    decoded->cells = (double *)PyByteArray_AsString(decoded->numbers);
    for (Py_ssize_t i = 0; i < reader->text_count; i++) {
        PyObject *list = PyList_New(0);
        if (list == NULL || PyTuple_SetItem(decoded->texts, i, list) < 0) {
            return FAILED;
        }
    }
    return TAKEN;
}

void decoded_free(Decoded *decoded)
{
    Py_CLEAR(decoded->numbers);
    Py_CLEAR(decoded->texts);
}

/* Change the room for rows. */
static int resize(Decoded *decoded, Py_ssize_t room)
{
    const Py_ssize_t bytes = room * decoded->reader->number_count * (Py_ssize_t)sizeof(double);
    if (PyByteArray_Resize(decoded->numbers, bytes) < 0) {
        return FAILED;
    }
    decoded->cells = (double *)PyByteArray_AsString(decoded->numbers);
    decoded->room = room;
    return TAKEN;
}

int decoded_add_rows(Decoded *decoded, Py_ssize_t rows)
{
    if (rows > decoded->most_rows - (decoded->rows - decoded->first)) {
        return SLOW;
    }
    const Py_ssize_t wanted = decoded->rows + rows, twice = decoded->room < 8 ? 16 : decoded->room * 2;
    if (wanted > decoded->room && resize(decoded, wanted > twice ? wanted : twice) != TAKEN) {
        return FAILED;
    }
    decoded->rows = wanted;
    return TAKEN;
}

int decoded_undo(Decoded *decoded)
{
    decoded->rows = decoded->first;
    for (Py_ssize_t i = 0; i < decoded->reader->text_count; i++) {
        PyObject *list = PyTuple_GetItem(decoded->texts, i);
        if (list == NULL || PyList_SetSlice(list, decoded->first, PY_SSIZE_T_MAX, NULL) < 0) {
            return FAILED;
        }
    }
    return TAKEN;
}

int decoded_close(Decoded *decoded)
{
    return decoded->room == decoded->rows ? TAKEN : resize(decoded, decoded->rows);
}

void asked_free(Asked *asked)
{
    Py_CLEAR(asked->wanted);
    Py_CLEAR(asked->id);
}

static int round_number(Number *number)
{
    char text[LONGEST_NUMBER + 1];
    char *end;
    memcpy(text, number->text.start, number->text.length);
    text[number->text.length] = '\0';
    number->value = PyOS_string_to_double(text, &end, NULL);
    if (number->value == -1.0 && PyErr_Occurred()) {
        return FAILED;
    }
    return end == text + number->text.length && !isinf(number->value) ? TAKEN : SLOW;
}

int read_number(Scan *scan, Number *number)
{
    if (!scan_number(scan, number)) {
        return SLOW;
    }
    return number->hard ? round_number(number) : TAKEN;
}

int read_boolean(Decoded *decoded, Scan *scan, Py_ssize_t row, const Feature *feature)
{
    const int is_true = scan_word(scan, "true");
    if (feature->kind != 'b' || (!is_true && !scan_word(scan, "false"))) {
        return SLOW;
    }
    decoded->cells[row * decoded->reader->number_count + feature->place] = is_true;
    return TAKEN;
}

static int append(Decoded *decoded, const Feature *feature, PyObject *value)
{
    PyObject *list = PyTuple_GetItem(decoded->texts, feature->place);
    const int failed = list == NULL || PyList_Append(list, value) < 0;
    Py_DECREF(value);
    return failed ? FAILED : TAKEN;
}

int put_missing(Decoded *decoded, Py_ssize_t row, const Feature *feature)
{
    if (!feature->nullable) {
        return SLOW;
    }
    if (feature->kind == 's') {
        return append(decoded, feature, Py_NewRef(decoded->reader->missing));
    }
    decoded->cells[row * decoded->reader->number_count + feature->place] = NAN;
    return TAKEN;
}

/* The text of a piece with escapes; None where half of a surrogate pair stands alone. */
static PyObject *unescaped(const Piece *piece)
{
    char *copy = PyMem_Malloc(piece->length);
    if (copy == NULL) {
        return PyErr_NoMemory();
    }
    const Py_ssize_t size = unescape(piece, copy);
    PyObject *text = size < 0 ? Py_NewRef(Py_None) : PyUnicode_DecodeUTF8(copy, size, NULL);
    PyMem_Free(copy);
    return text;
}

PyObject *text_object(const Piece *piece)
{
    PyObject *text =
        piece->escaped ? unescaped(piece) : PyUnicode_DecodeUTF8(piece->start, (Py_ssize_t)piece->length, NULL);
    if (text == NULL && PyErr_ExceptionMatches(PyExc_UnicodeDecodeError)) {
        PyErr_Clear();
        return Py_NewRef(Py_None);
    }
    return text;
}

int put_text(Decoded *decoded, const Feature *feature, const Piece *text)
{
    if (feature->kind != 's') {
        return SLOW;
    }
    PyObject *value = text_object(text);
    if (value == NULL || value == Py_None) {
        Py_XDECREF(value);
        return value == NULL ? FAILED : SLOW;
    }
    return append(decoded, feature, value);
}
