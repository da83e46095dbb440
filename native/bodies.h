/*
 * Request bodies, read straight from their bytes into the matrix and the texts of a batch.
 *
 * Only the plainest bodies are understood, and nothing is explained or refused: whatever is not plainly right makes
 * the answer None, and the careful way in Python (rows.py, tensors.py) reads the body again and decides. Everything
 * that is taken here is taken there too, with the same bits.
 */
#ifndef SOLERA_BODIES_H
#define SOLERA_BODIES_H

#include "json_scan.h"
#include "kernels.h"

#include <math.h>

#define LARGEST_INTEGER 9007199254740992.0 /* 2^53; the scanner takes no larger one */

/* What reading leads to: TAKEN, SLOW (not for us), or FAILED with an exception. */
enum { FAILED = -1, SLOW = 0, TAKEN = 1 };

/* A name as UTF-8, which `object` owns. */
typedef struct {
    PyObject *object;
    const char *text;
    size_t length;
} Name;

/* A feature: its kind is f Float, i Integer, b Boolean or s String. */
typedef struct {
    Name name;
    Py_ssize_t place; /* column of the matrix, or position among the texts */
    char kind;
    char nullable;
} Feature;

/* What bodies are read for. The object never changes once it is made. */
typedef struct {
    PyObject_HEAD Feature *features; /* in the schema's order */
    Py_ssize_t *sorted;              /* indexes of the features, by name */
    Name *outputs;
    Name model;
    PyObject *missing; /* a float NaN, which stands for every text that is missing */
    Py_ssize_t feature_count, number_count, text_count, output_count, most_rows;
} BodyReader;

/* A batch in the making: rows of earlier bodies, then those of the body that is being read. */
typedef struct {
    const BodyReader *reader;
    PyObject *numbers; /* bytearray: float64 (room, number_count) */
    double *cells;     /* its memory, while nothing else is done with it */
    PyObject *texts;   /* tuple of lists */
    Py_ssize_t first;  /* the body's first row */
    Py_ssize_t rows, room;
    Py_ssize_t most_rows; /* of the body */
    int alone;            /* nobody else knows of it: other threads may run meanwhile */
} Decoded;

int name_is(const Name *name, const Piece *piece);

/* The index of the feature with this name, or -1; `guess` is looked at first. */
Py_ssize_t find_feature(const BodyReader *reader, const Piece *name, Py_ssize_t guess);

/* Begin a batch with room for some rows. To be ended with decoded_free. */
int decoded_open(Decoded *decoded, const BodyReader *reader, Py_ssize_t room);
/* Add rows to the body's: of numbers, that is; each text is appended to its list. SLOW where they become too many. */
int decoded_add_rows(Decoded *decoded, Py_ssize_t rows);
/* Take the body's rows out again. */
int decoded_undo(Decoded *decoded);
void decoded_free(Decoded *decoded);

/* Make the matrix as large as its rows. */
int decoded_close(Decoded *decoded);

/* What a body says beside its rows; both are references of the holder. */
typedef struct {
    PyObject *wanted; /* V1: whether probabilities; V2: a tuple of outputs, or None for all */
    PyObject *id;     /* V2: a str or None */
} Asked;

/* Read a body's rows into a batch. The holder frees `asked` with asked_free, whatever came of it. */
typedef int (*ReadBody)(Decoded *decoded, const char *text, Py_ssize_t size, Asked *asked);
int read_v1_body(Decoded *decoded, const char *text, Py_ssize_t size, Asked *asked);
int read_v2_body(Decoded *decoded, const char *text, Py_ssize_t size, Asked *asked);
void asked_free(Asked *asked);

/* Scan a number and round it, also a hard one: TAKEN, or SLOW where there is none or it is too large. */
int read_number(Scan *scan, Number *number);

/* Set a feature's value in a row; of a text, append it. */
static inline int put_number(Decoded *decoded, Py_ssize_t row, const Feature *feature, double value)
{
    if (feature->kind != 'f' &&
        (feature->kind != 'i' || value != rint(value) || fabs(value) > LARGEST_INTEGER)) {
        return SLOW;
    }
    decoded->cells[row * decoded->reader->number_count + feature->place] = value;
    return TAKEN;
}

int put_missing(Decoded *decoded, Py_ssize_t row, const Feature *feature);
int put_text(Decoded *decoded, const Feature *feature, const Piece *text);
int read_boolean(Decoded *decoded, Scan *scan, Py_ssize_t row, const Feature *feature);

/* The text: None where it is not UTF-8, NULL with an exception. */
PyObject *text_object(const Piece *piece);

int is_body_reader(PyObject *object);
PyObject *body_reader_type(void);
PyObject *intake_type(void);

#endif
