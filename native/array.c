/* Arrays that come from Python, checked once at the edge. */
#include "kernels.h"

#include <string.h>

/* Whether a buffer's format is `wanted`, a single native type; "l" and "q" are one type where long has 64 bits. */
static int format_is(const char *format, char wanted)
{
    if (format == NULL) {
        return wanted == 'B';
    }
    if (strlen(format) != 1) {
        return 0;
    }
    if (wanted == 'q' && sizeof(long) == 8 && format[0] == 'l') {
        return 1;
    }
    if (wanted == 'i' && sizeof(long) == 4 && format[0] == 'l') {
        return 1;
    }
    return format[0] == wanted;
}

int array_open(Array *array, PyObject *object, char format, int dimensions, int access, const char *name)
{
    int flags = PyBUF_C_CONTIGUOUS | PyBUF_FORMAT | (access == WRITE ? PyBUF_WRITABLE : 0);
    if (PyObject_GetBuffer(object, &array->buffer, flags) < 0) {
        return -1;
    }
    const Py_buffer *buffer = &array->buffer;
    if (buffer->ndim != dimensions || !format_is(buffer->format, format)) {
        PyErr_Format(PyExc_TypeError, "%s must be an array with %d dimensions of the format \"%c\"", name,
                     dimensions, format);
        PyBuffer_Release(&array->buffer);
        return -1;
    }
    array->rows = buffer->shape[0];
    array->columns = dimensions == 2 ? buffer->shape[1] : 1;
    return 0;
}

int arguments_check(const char *function, Py_ssize_t given, Py_ssize_t wanted)
{
    if (given == wanted) {
        return 0;
    }
    PyErr_Format(PyExc_TypeError, "%s takes %zd arguments, not %zd", function, wanted, given);
    return -1;
}
