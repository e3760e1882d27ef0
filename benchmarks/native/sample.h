/* Many measured values, and their percentiles. */
typedef struct { float *at; size_t size, room; } Sample;

static void add(Sample *s, double value) {
    if (s->size == s->room) s->at = realloc(s->at, (s->room = s->room * 2 + 4096) * sizeof *s->at);
    s->at[s->size++] = value;
}

static int by_size(const void *a, const void *b) {
    float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

static void print_sample(const char *name, Sample *s) {
    if (s->size) qsort(s->at, s->size, sizeof *s->at, by_size);
    float p50 = s->size ? s->at[s->size / 2] : -1, p99 = s->size ? s->at[s->size * 99 / 100] : -1;
    printf("\"%s_p50_us\": %.1f, \"%s_p99_us\": %.1f, ", name, p50, name, p99);
}
