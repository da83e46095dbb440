/* The body of a function of masks.c, included once for each size of a processor's registers, which take LANES numbers.
 * (GCC makes bad code of vectors that are wider than the registers.) */
{
    typedef double Numbers __attribute__((vector_size(LANES * 8)));
    typedef int64_t Sets __attribute__((vector_size(LANES * 8)));
    enum { COUNT = MASKED_ROWS / LANES };
    const MaskedNode *const end = node + count;
    Sets sets[COUNT];
    for (int i = 0; i < COUNT; i++) {
        sets[i] = ~(Sets){0};
    }
    for (; node < end; node++) {
        const Numbers threshold = node->threshold - (Numbers){0};
        const Sets kept = node->kept - (Sets){0};
        const double *const column = x + (size_t)node->feature * MASKED_ROWS;
        Numbers values;
        if (missing && node->missing_left) {
            for (int i = 0; i < COUNT; i++) {
                memcpy(&values, column + i * LANES, sizeof values);
                sets[i] &= ~(Sets)(values > threshold) | kept;
            }
        } else {
            for (int i = 0; i < COUNT; i++) {
                memcpy(&values, column + i * LANES, sizeof values);
                sets[i] &= (Sets)(values <= threshold) | kept;
            }
        }
    }
    memcpy(left, sets, sizeof sets);
}
#undef LANES
