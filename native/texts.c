/*
 * Texts to numbers: terms counted by a vocabulary or by a hash, and sparse rows weighted or made dense.
 *
 * Sparse rows are three arrays: row i has data and indices from ends[i] up to ends[i + 1], in ascending order of
 * the indices. Every index is checked where it is used.
 */
#include "kernels.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Others get the interpreter after so many: about a millisecond. */
#define WORDS_WITHOUT_THREADS 4096
#define LONGEST_WORD 256 /* bytes that are lowered on the stack */
#define FEW 48           /* up to so many are sorted by insertion */

/* Where terms go: by `vocabulary`, or by their hash where it is NULL. */
typedef struct {
    PyObject *vocabulary;
    long long width;
    int is_signed;
    int64_t *keys; /* index * 2, plus one where the term counts as -1 */
    Py_ssize_t used;
    Py_ssize_t capacity;
    Py_ssize_t steps; /* since the beginning: words, terms and items */
} Counter;

static uint32_t rotated(uint32_t value, int by)
{
    return (value << by) | (value >> (32 - by));
}

/* MurmurHash3 (x86, 32 bits) with the seed 0. */
static uint32_t murmur3(const unsigned char *bytes, Py_ssize_t size)
{
    uint32_t hash = 0, word;
    Py_ssize_t at = 0;
    for (; at + 4 <= size; at += 4) {
        word = (uint32_t)bytes[at] | (uint32_t)bytes[at + 1] << 8 | (uint32_t)bytes[at + 2] << 16 |
               (uint32_t)bytes[at + 3] << 24;
        hash ^= rotated(word * 0xCC9E2D51u, 15) * 0x1B873593u;
        hash = rotated(hash, 13) * 5u + 0xE6546B64u;
    }
    if (at < size) {
        word = 0;
        for (Py_ssize_t i = size - 1; i >= at; i--) {
            word = word << 8 | bytes[i];
        }
        hash ^= rotated(word * 0xCC9E2D51u, 15) * 0x1B873593u;
    }
    hash ^= (uint32_t)size;
    hash = (hash ^ hash >> 16) * 0x85EBCA6Bu;
    hash = (hash ^ hash >> 13) * 0xC2B2AE35u;
    return hash ^ hash >> 16;
}

static int add_key(Counter *counter, long long index, int negative)
{
    if (index < 0 || index >= counter->width || counter->used >= counter->capacity) {
        PyErr_SetString(PyExc_ValueError, "a term's index is outside the width, or there is no room for it");
        return -1;
    }
    counter->keys[counter->used++] = index * 2 + negative;
    return 0;
}

static int add_hashed(Counter *counter, const char *bytes, Py_ssize_t size)
{
    const int64_t hash = (int32_t)murmur3((const unsigned char *)bytes, size);
    /* The magnitude of the least number does not fit into 32 bits: scikit-learn's way around it. */
    const int64_t index = hash == INT32_MIN ? (INT32_MAX - (counter->width - 1)) % counter->width
                                            : (hash < 0 ? -hash : hash) % counter->width;
    return add_key(counter, index, counter->is_signed && hash < 0);
}

/* Count a term that is in the vocabulary. */
static int add_known(Counter *counter, PyObject *term)
{
    PyObject *place = PyDict_GetItemWithError(counter->vocabulary, term);
    if (place == NULL) {
        return PyErr_Occurred() ? -1 : 0;
    }
    const long long index = PyLong_AsLongLong(place);
    if (index == -1 && PyErr_Occurred()) {
        return -1;
    }
    return add_key(counter, index, 0);
}

static int add_bytes(Counter *counter, const char *bytes, Py_ssize_t size)
{
    if (counter->vocabulary == NULL) {
        return add_hashed(counter, bytes, size);
    }
    PyObject *term = PyUnicode_FromStringAndSize(bytes, size);
    if (term == NULL) {
        return -1;
    }
    const int failed = add_known(counter, term);
    Py_DECREF(term);
    return failed;
}

static int is_word(unsigned char byte)
{
    return (byte >= 'a' && byte <= 'z') || (byte >= 'A' && byte <= 'Z') || (byte >= '0' && byte <= '9') || byte == '_';
}

static int add_lowered(Counter *counter, const char *bytes, Py_ssize_t size)
{
    char some[LONGEST_WORD] = "";
    char *lowered = size <= LONGEST_WORD ? some : PyMem_Malloc((size_t)size);
    if (lowered == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    for (Py_ssize_t i = 0; i < size; i++) {
        lowered[i] = bytes[i] >= 'A' && bytes[i] <= 'Z' ? (char)(bytes[i] + ('a' - 'A')) : bytes[i];
    }
    const int failed = add_bytes(counter, lowered, size);
    if (lowered != some) {
        PyMem_Free(lowered);
    }
    return failed;
}

/* Let other threads run once in a while. They may change a list, though nobody should: what is worked on is held. */
static void let_others_run(Counter *counter)
{
    if (++counter->steps % WORDS_WITHOUT_THREADS == 0) {
        PyEval_RestoreThread(PyEval_SaveThread());
    }
}

/* Count the words of an ASCII text: runs of two or more letters, digits or underscores. */
static int add_words(Counter *counter, PyObject *text, int lower)
{
    Py_ssize_t size;
    const char *bytes = PyUnicode_AsUTF8AndSize(text, &size);
    if (bytes == NULL) {
        return -1;
    }
    if (size != PyUnicode_GetLength(text)) {
        PyErr_SetString(PyExc_ValueError, "a text that is not ASCII must come as a list of terms");
        return -1;
    }
    for (Py_ssize_t at = 0; at < size;) {
        Py_ssize_t end = at;
        let_others_run(counter);
        while (end < size && is_word((unsigned char)bytes[end])) {
            end++;
        }
        if (end - at >= 2 && (lower ? add_lowered : add_bytes)(counter, bytes + at, end - at) < 0) {
            return -1;
        }
        at = end + 1;
    }
    return 0;
}

static int add_terms(Counter *counter, PyObject *terms)
{
    for (Py_ssize_t i = 0; i < PyList_Size(terms); i++) {
        let_others_run(counter);
        PyObject *term = PyList_GetItem(terms, i);
        if (term == NULL) {
            return -1;
        }
        if (!PyUnicode_CheckExact(term)) {
            PyErr_SetString(PyExc_TypeError, "a term must be a str");
            return -1;
        }
        if (counter->vocabulary != NULL) {
            if (add_known(counter, term) < 0) {
                return -1;
            }
            continue;
        }
        Py_ssize_t size;
        const char *bytes = PyUnicode_AsUTF8AndSize(term, &size);
        if (bytes == NULL || add_hashed(counter, bytes, size) < 0) {
            return -1;
        }
    }
    return 0;
}

static int compare(const void *one, const void *other)
{
    const int64_t a = *(const int64_t *)one, b = *(const int64_t *)other;
    return (a > b) - (a < b);
}

static void sort(int64_t *keys, Py_ssize_t n)
{
    if (n > WORDS_WITHOUT_THREADS) {
        Py_BEGIN_ALLOW_THREADS
        qsort(keys, (size_t)n, sizeof *keys, compare);
        Py_END_ALLOW_THREADS
        return;
    }
    if (n > FEW) {
        qsort(keys, (size_t)n, sizeof *keys, compare);
        return;
    }
    for (Py_ssize_t i = 1; i < n; i++) {
        const int64_t key = keys[i];
        Py_ssize_t j = i;
        for (; j > 0 && keys[j - 1] > key; j--) {
            keys[j] = keys[j - 1];
        }
        keys[j] = key;
    }
}

/* Make of the keys from `start` on, in their place, ascending indices and how often each was counted. */
static Py_ssize_t merge(Counter *counter, Py_ssize_t start, double *data)
{
    int64_t *keys = counter->keys;
    sort(keys + start, counter->used - start);
    Py_ssize_t end = start;
    for (Py_ssize_t i = start; i < counter->used; i++) {
        const int64_t index = keys[i] >> 1;
        const double one = keys[i] & 1 ? -1.0 : 1.0;
        if (end > start && keys[end - 1] == index) {
            data[end - 1] += one;
        } else {
            keys[end] = index;
            data[end++] = one;
        }
    }
    return end;
}

static int count_rows(Counter *counter, PyObject *items, int lower, int64_t *ends, double *data)
{
    ends[0] = 0;
    const Py_ssize_t rows = PyList_Size(items); /* as many as there are ends, whatever becomes of the list */
    for (Py_ssize_t i = 0; i < rows; i++) {
        let_others_run(counter); /* an item may have no words */
        PyObject *item = Py_XNewRef(PyList_GetItem(items, i));
        const Py_ssize_t start = counter->used;
        int failed = -1;
        if (item == NULL) {
            return -1;
        }
        if (PyUnicode_CheckExact(item)) {
            failed = add_words(counter, item, lower);
        } else if (PyList_CheckExact(item)) {
            failed = add_terms(counter, item);
        } else {
            PyErr_SetString(PyExc_TypeError, "an item must be a str or a list of terms");
        }
        Py_DECREF(item);
        if (failed) {
            return -1;
        }
        ends[i + 1] = counter->used = merge(counter, start, data);
    }
    return 0;
}

/* Sparse rows as they come from Python. */
typedef struct {
    Array ends, indices, data;
    Py_ssize_t rows;
} Sparse;

static void close_sparse(Sparse *sparse)
{
    PyBuffer_Release(&sparse->data.buffer);
    PyBuffer_Release(&sparse->indices.buffer);
    PyBuffer_Release(&sparse->ends.buffer);
}

/* Open ends, indices and data: 0, or -1 with an exception. */
static int open_parts(Sparse *sparse, PyObject *const *arguments, int places, int values)
{
    if (array_open(&sparse->ends, arguments[0], 'q', 1, places, "ends") < 0) {
        return -1;
    }
    if (array_open(&sparse->indices, arguments[1], 'q', 1, places, "indices") < 0) {
        PyBuffer_Release(&sparse->ends.buffer);
        return -1;
    }
    if (array_open(&sparse->data, arguments[2], 'd', 1, values, "data") < 0) {
        PyBuffer_Release(&sparse->indices.buffer);
        PyBuffer_Release(&sparse->ends.buffer);
        return -1;
    }
    sparse->rows = sparse->ends.rows - 1;
    return 0;
}

/* count_terms(items: list of ASCII str or lists of terms, vocabulary: dict or None, width: int, signed: bool,
 * lower: bool, ends: int64 (items + 1,), indices: int64 (n,), data: float64 (n,)) -> int */
PyObject *count_terms(PyObject *Py_UNUSED(module), PyObject *const *arguments, Py_ssize_t count)
{
    Sparse counted;
    PyObject *result = NULL;
    if (arguments_check("count_terms", count, 8) < 0) {
        return NULL;
    }
    PyObject *items = arguments[0], *vocabulary = arguments[1];
    if (!PyList_CheckExact(items) || !(vocabulary == Py_None || PyDict_CheckExact(vocabulary))) {
        PyErr_SetString(PyExc_TypeError, "items must be a list, and vocabulary a dict or None");
        return NULL;
    }
    Counter counter = {vocabulary == Py_None ? NULL : vocabulary, PyLong_AsLongLong(arguments[2]), 0, NULL, 0, 0, 0};
    if (counter.width == -1 && PyErr_Occurred()) {
        return NULL;
    }
    if (counter.width < (counter.vocabulary == NULL) || counter.width > INT32_MAX) {
        PyErr_SetString(PyExc_ValueError, "width is out of range");
        return NULL;
    }
    counter.is_signed = arguments[3] == Py_True;
    if (open_parts(&counted, arguments + 5, WRITE, WRITE) < 0) {
        return NULL;
    }
    counter.keys = counted.indices.buffer.buf;
    counter.capacity = counted.indices.rows;
    if (counted.rows != PyList_Size(items) || counted.data.rows != counted.indices.rows) {
        PyErr_SetString(PyExc_ValueError, "ends, indices and data do not fit the items or each other");
    } else if (count_rows(&counter, items, arguments[4] == Py_True, counted.ends.buffer.buf,
                          counted.data.buffer.buf) == 0) {
        result = PyLong_FromSsize_t(counter.used);
    }
    close_sparse(&counted);
    return result;
}

/* Open ends, indices and data, whose indices must be in 0 <= index < width: 0, or -1 with an exception. */
static int open_sparse(Sparse *sparse, PyObject *const *arguments, Py_ssize_t width, int access)
{
    if (open_parts(sparse, arguments, READ, access) < 0) {
        return -1;
    }
    const int64_t *ends = sparse->ends.buffer.buf, *indices = sparse->indices.buffer.buf;
    const Py_ssize_t values = sparse->data.rows;
    int fits = sparse->rows >= 0 && sparse->indices.rows == values && ends[0] == 0 && ends[sparse->rows] == values;
    for (Py_ssize_t i = 0; fits && i < sparse->rows; i++) {
        fits = ends[i] <= ends[i + 1];
    }
    for (Py_ssize_t i = 0; fits && i < values; i++) {
        fits = indices[i] >= 0 && indices[i] < width;
    }
    if (!fits) {
        PyErr_SetString(PyExc_ValueError, "ends, indices and data are no sparse rows of this width");
        close_sparse(sparse);
        return -1;
    }
    return 0;
}

/* Divide the values by the norm of their row, summed in their order: 1 absolute values, 2 squares. */
static void normalise(const Sparse *sparse, long norm)
{
    const int64_t *ends = sparse->ends.buffer.buf;
    double *data = sparse->data.buffer.buf;
    for (Py_ssize_t row = 0; row < sparse->rows; row++) {
        double total = 0.0;
        for (int64_t i = ends[row]; i < ends[row + 1]; i++) {
            total += norm == 2 ? data[i] * data[i] : fabs(data[i]);
        }
        if (total == 0.0) {
            continue;
        }
        total = norm == 2 ? sqrt(total) : total;
        for (int64_t i = ends[row]; i < ends[row + 1]; i++) {
            data[i] /= total;
        }
    }
}

/* weigh_terms(ends, indices, data, factors: float64 (width,) or None, norm: 0, 1 or 2) changes data. */
PyObject *weigh_terms(PyObject *Py_UNUSED(module), PyObject *const *arguments, Py_ssize_t count)
{
    Sparse sparse;
    Array factors;
    if (arguments_check("weigh_terms", count, 5) < 0) {
        return NULL;
    }
    const long norm = PyLong_AsLong(arguments[4]);
    if (norm < 0 || norm > 2) {
        if (!PyErr_Occurred()) {
            PyErr_SetString(PyExc_ValueError, "norm must be 0, 1 or 2");
        }
        return NULL;
    }
    const int weighted = arguments[3] != Py_None;
    if (weighted && array_open(&factors, arguments[3], 'd', 1, READ, "factors") < 0) {
        return NULL;
    }
    PyObject *result = NULL;
    if (open_sparse(&sparse, arguments, weighted ? factors.rows : PY_SSIZE_T_MAX, WRITE) == 0) {
        if (weighted) {
            const int64_t *indices = sparse.indices.buffer.buf;
            const double *factor = factors.buffer.buf;
            double *data = sparse.data.buffer.buf;
            for (Py_ssize_t i = 0; i < sparse.data.rows; i++) {
                data[i] *= factor[indices[i]];
            }
        }
        if (norm != 0) {
            normalise(&sparse, norm);
        }
        close_sparse(&sparse);
        result = Py_NewRef(Py_None);
    }
    if (weighted) {
        PyBuffer_Release(&factors.buffer);
    }
    return result;
}

/* scatter(ends, indices, data, out: float64 (rows, columns), start: int) writes into out, from column start on. */
PyObject *scatter(PyObject *Py_UNUSED(module), PyObject *const *arguments, Py_ssize_t count)
{
    Sparse sparse;
    Array out;
    if (arguments_check("scatter", count, 5) < 0) {
        return NULL;
    }
    const Py_ssize_t start = PyLong_AsSsize_t(arguments[4]);
    if ((start == -1 && PyErr_Occurred()) || array_open(&out, arguments[3], 'd', 2, WRITE, "out") < 0) {
        return NULL;
    }
    PyObject *result = NULL;
    if (start < 0 || start > out.columns) {
        PyErr_SetString(PyExc_ValueError, "start is no column of out");
    } else if (open_sparse(&sparse, arguments, out.columns - start, READ) == 0) {
        if (sparse.rows != out.rows) {
            PyErr_SetString(PyExc_ValueError, "out has another number of rows");
        } else {
            const int64_t *ends = sparse.ends.buffer.buf, *indices = sparse.indices.buffer.buf;
            const double *data = sparse.data.buffer.buf;
            for (Py_ssize_t row = 0; row < out.rows; row++) {
                double *to = (double *)out.buffer.buf + row * out.columns + start;
                for (int64_t i = ends[row]; i < ends[row + 1]; i++) {
                    to[indices[i]] = data[i];
                }
            }
            result = Py_NewRef(Py_None);
        }
        close_sparse(&sparse);
    }
    PyBuffer_Release(&out.buffer);
    return result;
}
