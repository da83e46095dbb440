#include "json_scan.h"

#include <float.h>
#include <stdint.h>
#include <string.h>

#define LARGEST_EXACT 9007199254740992ULL /* 2^53 */
#define MOST_DIGITS 19                    /* that a uint64 surely holds */

static const double POWERS[] = {1e0,  1e1,  1e2,  1e3,  1e4,  1e5,  1e6,  1e7,  1e8,  1e9,  1e10, 1e11,
                                1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22};

int scan_word(Scan *scan, const char *word)
{
    const size_t length = strlen(word);
    scan_space(scan);
    if ((size_t)(scan->end - scan->at) < length || memcmp(scan->at, word, length) != 0) {
        return 0;
    }
    scan->at += length;
    return 1; /* what may follow is seen by the next look: a comma or a bracket must */
}

/* The value of four hexadecimal digits, or -1. */
static int hexadecimal(const char *at, const char *end)
{
    int value = 0;
    if (end - at < 4) {
        return -1;
    }
    for (int i = 0; i < 4; i++) {
        const char c = at[i], low = (char)(c | 0x20);
        const int digit = c >= '0' && c <= '9' ? c - '0' : low >= 'a' && low <= 'f' ? low - 'a' + 10 : -1;
        if (digit < 0) {
            return -1;
        }
        value = value * 16 + digit;
    }
    return value;
}

/* How many characters an escape has, of which the backslash stands at `at`, or 0 where it is none. */
static int escape_length(const char *at, const char *end)
{
    if (end - at < 2 || at[1] == '\0') {
        return 0;
    }
    if (at[1] == 'u') {
        return hexadecimal(at + 2, end) < 0 ? 0 : 6;
    }
    return strchr("\"\\/bfnrt", at[1]) != NULL ? 2 : 0;
}

int scan_text(Scan *scan, Piece *text)
{
    if (!scan_character(scan, '"')) {
        return 0;
    }
    const char *at = scan->at;
    unsigned char seen = 0;
    int escaped = 0;
    while (at < scan->end && *at != '"') {
        const unsigned char byte = (unsigned char)*at;
        int length = 1;
        if (byte == '\\') {
            length = escape_length(at, scan->end);
            escaped = 1;
        }
        if (byte < 0x20 || length == 0) {
            return 0;
        }
        seen |= byte;
        at += length;
    }
    if (at == scan->end) {
        return 0;
    }
    *text = (Piece){scan->at, (size_t)(at - scan->at), seen < 0x80, escaped};
    scan->at = at + 1;
    return 1;
}

int scan_string(Scan *scan, Piece *string)
{
    return scan_text(scan, string) && !string->escaped;
}

/* Write a code point as UTF-8 and return its end. */
static char *write_utf8(char *out, unsigned code)
{
    static const unsigned LEADS[] = {0, 0xC0, 0xE0, 0xF0};
    const int more = code < 0x80 ? 0 : code < 0x800 ? 1 : code < 0x10000 ? 2 : 3;
    *out++ = (char)(LEADS[more] | (code >> (6 * more)));
    for (int i = more - 1; i >= 0; i--) {
        *out++ = (char)(0x80 | ((code >> (6 * i)) & 0x3F));
    }
    return out;
}

ptrdiff_t unescape(const Piece *text, char *out)
{
    static const char NAMES[] = "bfnrt", VALUES[] = "\b\f\n\r\t";
    const char *at = text->start, *end = at + text->length, *begin = out;
    while (at < end) {
        if (*at != '\\') {
            *out++ = *at++;
            continue;
        }
        const char *name = strchr(NAMES, at[1]);
        if (at[1] != 'u') {
            *out++ = name != NULL ? VALUES[name - NAMES] : at[1];
            at += 2;
            continue;
        }
        unsigned code = (unsigned)hexadecimal(at + 2, end);
        at += 6;
        if (code >= 0xD800 && code < 0xE000) {
            const int low = end - at >= 6 && at[0] == '\\' && at[1] == 'u' ? hexadecimal(at + 2, end) : -1;
            if (code >= 0xDC00 || low < 0xDC00 || low >= 0xE000) {
                return -1;
            }
            code = 0x10000 + ((code - 0xD800) << 10) + (unsigned)(low - 0xDC00);
            at += 6;
        }
        out = write_utf8(out, code);
    }
    return out - begin;
}

#ifdef __SIZEOF_INT128__
/*
 * mantissa / 10^places, rounded once: 0 < mantissa < 2^64, 0 < places <= 19. The quotient of whole numbers gets 64
 * bits or one less, of which the last says whether anything remained; 53 are kept, ties go to even.
 */
static double divided(uint64_t mantissa, int places)
{
    const uint64_t divisor = (uint64_t)POWERS[places];
    const int shift = __builtin_clzll(mantissa), divisor_shift = __builtin_clzll(divisor);
    /* Both now begin with a bit 63, so that the quotient is between 2^62 and 2^64. */
    const unsigned __int128 dividend = (unsigned __int128)(mantissa << shift) << 63;
    const uint64_t wide = divisor << divisor_shift;
    uint64_t quotient = (uint64_t)(dividend / wide);
    const uint64_t rest = (uint64_t)(dividend - (unsigned __int128)quotient * wide);
    quotient |= rest != 0;
    /* Keep 53 bits: 11 or 10 go. */
    const int surplus = 11 - __builtin_clzll(quotient);
    const uint64_t half = 1ULL << (surplus - 1), gone = quotient & (2 * half - 1);
    uint64_t kept = quotient >> surplus;
    kept += gone > half || (gone == half && (kept & 1));
    /* The value is kept * 2^exponent, which is far from the ends of a double's range: both, and the product, are exact. */
    const int exponent = surplus - 63 - shift + divisor_shift;
    const uint64_t bits = (uint64_t)(1023 + exponent) << 52;
    double power;
    memcpy(&power, &bits, sizeof power);
    return (double)kept * power;
}
#endif

/* Set the value of +-mantissa * 10^exponent, or say that it is hard. */
static void set_value(Number *number, uint64_t mantissa, long exponent, int negative)
{
    double value = (double)mantissa;
#if FLT_EVAL_METHOD == 0
    if (mantissa <= LARGEST_EXACT && exponent >= -22 && exponent <= 22) {
        /* Both are exact, and so one operation rounds once. */
        value = exponent < 0 ? value / POWERS[-exponent] : value * POWERS[exponent];
        number->value = negative ? -value : value;
        return;
    }
#ifdef __SIZEOF_INT128__
    if (mantissa != 0 && exponent < 0 && exponent >= -19) {
        value = divided(mantissa, (int)-exponent);
        number->value = negative ? -value : value;
        return;
    }
#endif
#endif
    number->hard = 1;
}

static inline int is_digit(const char *at, const char *end)
{
    return at < end && (unsigned char)(*at - '0') < 10;
}

/* Go past digits and add them to the mantissa, which turns over where they are too many. */
static inline const char *scan_digits(const char *at, const char *end, uint64_t *mantissa)
{
    uint64_t sum = *mantissa;
    for (; is_digit(at, end); at++) {
        sum = sum * 10 + (uint64_t)(*at - '0');
    }
    *mantissa = sum;
    return at;
}

/* Go past the part that begins with e or E and add it to the exponent. NULL where there are no digits. */
static const char *scan_exponent(const char *at, const char *end, long *exponent)
{
    long written = 0;
    int negative = 0;
    at++;
    if (at < end && (*at == '+' || *at == '-')) {
        negative = *at++ == '-';
    }
    if (!is_digit(at, end)) {
        return NULL;
    }
    for (; is_digit(at, end); at++) {
        if (written < 100000) {
            written = written * 10 + (*at - '0');
        }
    }
    *exponent += negative ? -written : written;
    return at;
}

/* Whether a number without its sign, of `digits` digits, has more than MOST_DIGITS behind the zeros it begins with. */
static int too_many_digits(const char *at, long digits)
{
    for (; digits > MOST_DIGITS && (*at == '0' || *at == '.'); at++) {
        digits -= *at == '0';
    }
    return digits > MOST_DIGITS;
}

int scan_number(Scan *scan, Number *number)
{
    scan_space(scan);
    const char *const start = scan->at, *const end = scan->end;
    uint64_t mantissa = 0;
    long exponent = 0;
    const int negative = start < end && *start == '-';
    const char *const first = start + negative;
    const char *at = scan_digits(first, end, &mantissa);
    long digits = at - first;
    if (digits == 0 || (digits > 1 && *first == '0')) {
        return 0;
    }
    number->whole = 1;
    number->hard = 0;
    if (at < end && *at == '.') {
        const char *point = at + 1;
        at = scan_digits(point, end, &mantissa);
        exponent = point - at;
        digits -= exponent;
        number->whole = 0;
        if (exponent == 0) {
            return 0;
        }
    }
    if (at < end && (*at == 'e' || *at == 'E')) {
        number->whole = 0;
        at = scan_exponent(at, end, &exponent);
        if (at == NULL) {
            return 0;
        }
    }
    if (at == end || at - start > LONGEST_NUMBER) {
        return 0;
    }
    scan->at = at;
    number->text = (Piece){.start = start, .length = (size_t)(at - start), .ascii = 1};
    const int many = digits > MOST_DIGITS && too_many_digits(first, digits);
    if (number->whole) {
        number->value = negative && mantissa != 0 ? -(double)mantissa : (double)mantissa; /* -0 is an integer's 0 */
        return !many && mantissa <= LARGEST_EXACT;
    }
    if (many) {
        number->hard = 1;
    } else {
        set_value(number, mantissa, exponent, negative);
    }
    return 1;
}

int scan_array(Scan *scan, Piece *array)
{
    const char *start = scan->at;
    size_t depth = 0;
    if (!scan_ahead(scan, '[')) {
        return 0;
    }
    start = scan->at;
    while (scan->at < scan->end) {
        Piece string;
        if (*scan->at == '"') {
            if (!scan_text(scan, &string)) {
                return 0;
            }
            continue;
        }
        depth += *scan->at == '[';
        if (*scan->at++ == ']' && --depth == 0) {
            *array = (Piece){.start = start, .length = (size_t)(scan->at - start)};
            return 1;
        }
    }
    return 0;
}

int scan_finished(Scan *scan)
{
    scan_space(scan);
    return scan->at == scan->end;
}
