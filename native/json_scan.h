/*
 * A scanner of JSON text in memory, without Python in it: nothing is allocated, nothing calls itself, and no byte
 * at or beyond `end` is looked at. It knows the plainest forms only. A function returns 1, and has then gone past
 * what it found; or 0 where something else stands there: the whole text is then somebody else's to read.
 */
#ifndef SOLERA_JSON_SCAN_H
#define SOLERA_JSON_SCAN_H

#include <stddef.h>

typedef struct {
    const char *at;
    const char *end;
} Scan;

/* A piece of the text: a string without its quotes, or a number. */
typedef struct {
    const char *start;
    size_t length;
    int ascii;   /* of a string: no byte of 0x80 or above, and so valid UTF-8 for certain */
    int escaped; /* of a text: there are escapes in it */
} Piece;

typedef struct {
    double value;
    Piece text;
    int whole; /* written without fraction and exponent; then at most 2^53 in size, and exact */
    int hard;  /* `value` is not set: `text`, of at most LONGEST_NUMBER characters, must be rounded with more effort */
} Number;

enum { LONGEST_NUMBER = 64 };

static inline void scan_space(Scan *scan)
{
    while (scan->at < scan->end &&
           (*scan->at == ' ' || *scan->at == '\n' || *scan->at == '\r' || *scan->at == '\t')) {
        scan->at++;
    }
}

/* White space, and whether the one character then stands there; it is not gone past. */
static inline int scan_ahead(Scan *scan, char wanted)
{
    scan_space(scan);
    return scan->at < scan->end && *scan->at == wanted;
}

/* White space, then the one character. */
static inline int scan_character(Scan *scan, char wanted)
{
    const int found = scan_ahead(scan, wanted);
    scan->at += found;
    return found;
}

/* White space, then a comma (1) or `close` (2). */
static inline int scan_next(Scan *scan, char close)
{
    scan_space(scan);
    if (scan->at == scan->end) {
        return 0;
    }
    const int found = *scan->at == ',' ? 1 : *scan->at == close ? 2 : 0;
    scan->at += found != 0;
    return found;
}

/* White space, then `word` (true, false, null). */
int scan_word(Scan *scan, const char *word);

/* White space, then a string without escapes and control characters. */
int scan_string(Scan *scan, Piece *string);

/* The same with escapes; whether those of surrogates come in pairs is for unescape to see. */
int scan_text(Scan *scan, Piece *text);

/* Write the text without its escapes to `out`, which has room for as many bytes as it has: how many those are then, or
 * -1 where half of a surrogate pair stands alone. */
ptrdiff_t unescape(const Piece *text, char *out);

/* White space, then a number, correctly rounded unless it is hard. Not one at the very end of the text: no document
 * ends so. */
int scan_number(Scan *scan, Number *number);

/* White space, then an array, of which only the end is looked for: brackets outside of plain strings. */
int scan_array(Scan *scan, Piece *array);

/* Whether the whole text has been read, but for white space. */
int scan_finished(Scan *scan);

#endif
