/* Bodies of V1: {"instances": [[value, ...], ...]} or [{name: value, ...}, ...], and whether probabilities are wanted. */
#include "bodies.h"

/* The value of a feature in a row. */
static int read_value(Decoded *decoded, Scan *scan, const Feature *feature)
{
    const Py_ssize_t row = decoded->rows - 1;
    if (scan_ahead(scan, 'n')) {
        return scan_word(scan, "null") ? put_missing(decoded, row, feature) : SLOW;
    }
    if (feature->kind == 's') {
        Piece text;
        return scan_text(scan, &text) ? put_text(decoded, feature, &text) : SLOW;
    }
    if (feature->kind == 'b') {
        return read_boolean(decoded, scan, row, feature);
    }
    Number number;
    const int taken = read_number(scan, &number);
    return taken == TAKEN ? put_number(decoded, row, feature, number.value) : taken;
}

/* A row as a list, of which the bracket has been read. */
static int read_list(Decoded *decoded, Scan *scan)
{
    const BodyReader *reader = decoded->reader;
    for (Py_ssize_t i = 0; i < reader->feature_count; i++) {
        const int taken = read_value(decoded, scan, &reader->features[i]);
        if (taken != TAKEN) {
            return taken;
        }
        if (scan_next(scan, ']') != (i + 1 == reader->feature_count ? 2 : 1)) {
            return SLOW;
        }
    }
    return TAKEN;
}

/* Fill in the features that an object did not name. */
static int fill_absent(Decoded *decoded, const Py_ssize_t *seen)
{
    const BodyReader *reader = decoded->reader;
    for (Py_ssize_t i = 0; i < reader->feature_count; i++) {
        if (seen[i] != decoded->rows) {
            const int taken = put_missing(decoded, decoded->rows - 1, &reader->features[i]);
            if (taken != TAKEN) {
                return taken;
            }
        }
    }
    return TAKEN;
}

/* A row as an object, of which the brace has been read. `seen` has the last row, from 1, that named a feature. */
static int read_object(Decoded *decoded, Scan *scan, Py_ssize_t *seen)
{
    const BodyReader *reader = decoded->reader;
    Py_ssize_t count = 0, index = -1;
    int more = scan_character(scan, '}') ? 2 : 1;
    while (more == 1) {
        Piece name;
        if (!scan_string(scan, &name) || !scan_character(scan, ':')) {
            return SLOW;
        }
        index = find_feature(reader, &name, index + 1);
        if (index < 0 || seen[index] == decoded->rows) {
            return SLOW;
        }
        seen[index] = decoded->rows;
        const int taken = read_value(decoded, scan, &reader->features[index]);
        if (taken != TAKEN) {
            return taken;
        }
        count++;
        more = scan_next(scan, '}');
    }
    if (more == 0) {
        return SLOW;
    }
    return count == reader->feature_count ? TAKEN : fill_absent(decoded, seen);
}

/* The list of rows, all of the kind of the first. */
static int read_instances(Decoded *decoded, Scan *scan)
{
    if (!scan_character(scan, '[')) {
        return SLOW;
    }
    Py_ssize_t *seen = NULL;
    const char open = scan_ahead(scan, '{') ? '{' : '[';
    if (open == '{') {
        seen = PyMem_Calloc((size_t)decoded->reader->feature_count, sizeof *seen);
        if (seen == NULL) {
            PyErr_NoMemory();
            return FAILED;
        }
    }
    /* Rows of nothing are many in a small body. */
    const Py_ssize_t without_threads = 1 + STEPS_WITHOUT_THREADS / (decoded->reader->feature_count + 1);
    int taken = TAKEN, more = 1;
    while (more == 1 && taken == TAKEN) {
        if (decoded->alone && decoded->rows % without_threads == without_threads - 1) {
            PyEval_RestoreThread(PyEval_SaveThread());
        }
        taken = scan_character(scan, open) ? decoded_add_rows(decoded, 1) : SLOW;
        if (taken == TAKEN) {
            taken = open == '{' ? read_object(decoded, scan, seen) : read_list(decoded, scan);
        }
        more = scan_next(scan, ']');
    }
    PyMem_Free(seen);
    return taken == TAKEN && more == 0 ? SLOW : taken;
}

/* {"probabilities": true}, or an object with nothing in it. */
static int read_parameters(Scan *scan, int *probabilities)
{
    Piece name;
    if (!scan_character(scan, '{')) {
        return 0;
    }
    if (scan_character(scan, '}')) {
        return 1;
    }
    if (!scan_string(scan, &name) || !name_is(&(Name){NULL, "probabilities", 13}, &name) ||
        !scan_character(scan, ':')) {
        return 0;
    }
    *probabilities = scan_word(scan, "true");
    return (*probabilities || scan_word(scan, "false")) && scan_character(scan, '}');
}

static int read_body(Decoded *decoded, Scan *scan, int *probabilities)
{
    int with_instances = 0, with_parameters = 0, more = 1;
    if (!scan_character(scan, '{')) {
        return SLOW;
    }
    while (more == 1) {
        Piece name;
        int taken = SLOW;
        if (!scan_string(scan, &name) || !scan_character(scan, ':')) {
            return SLOW;
        }
        if (name_is(&(Name){NULL, "instances", 9}, &name) && !with_instances++) {
            taken = read_instances(decoded, scan);
        } else if (name_is(&(Name){NULL, "parameters", 10}, &name) && !with_parameters++) {
            taken = read_parameters(scan, probabilities);
        }
        if (taken != TAKEN) {
            return taken;
        }
        more = scan_next(scan, '}');
    }
    return more == 2 && with_instances && scan_finished(scan) ? TAKEN : SLOW;
}

int read_v1_body(Decoded *decoded, const char *text, Py_ssize_t size, Asked *asked)
{
    Scan scan = {text, text + size};
    int probabilities = 0;
    const int taken = read_body(decoded, &scan, &probabilities);
    *asked = (Asked){PyBool_FromLong(probabilities), Py_NewRef(Py_None)};
    return taken;
}
