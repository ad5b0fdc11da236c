/* Vectors of floats as wide as the machine's, and e^x.
 *
 * Shapes, here and in the files beside: B sequences, T context, H heads, K head dimension or inputs of a layer, N outputs
 * of a layer, D width, F feed-forward width, M rows, V vocabulary. Matrices are row-major. float, one thread, no state.
 */

#ifndef ALGOPROGRESS_VECTORS_H
#define ALGOPROGRESS_VECTORS_H

#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#if defined(__AVX512F__)
#define W 16 /* floats in a register */
#define COLUMN ((veci){0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15})
#elif defined(__AVX__)
#define W 8
#define COLUMN ((veci){0, 1, 2, 3, 4, 5, 6, 7})
#else
#define W 4
#define COLUMN ((veci){0, 1, 2, 3})
#endif

typedef float vec __attribute__((vector_size(4 * W), aligned(4), may_alias));

typedef int32_t veci __attribute__((vector_size(4 * W), aligned(4), may_alias));

/* x - 0 is x for every x, which x + 0 is not */
static inline vec all(float x) { return x - (vec){0}; }
static inline vec load(const float *p) { return *(const vec *)p; }
static inline void store(float *p, vec x) { *(vec *)p = x; }
static inline vec choose(veci mask, vec yes, vec no) { return (vec)((mask & (veci)yes) | (~mask & (veci)no)); }

static inline float sum_of(vec x) {
    float sum = 0.0f;
    for (int i = 0; i < W; i++) sum += x[i];
    return sum;
}

static inline float largest_of(vec x) {
    float top = x[0];
    for (int i = 1; i < W; i++) top = x[i] > top ? x[i] : top;
    return top;
}

static inline long up(long n, long to) { return (n + to - 1) / to * to; }

/* e^x, of NaN NaN; ln 2 in two parts, so that the reduced argument is exact; the polynomial is Cephes's expf */
static inline vec exp_of(vec x) {
    const vec least = all(-87.0f), most = all(88.0f);
    x = choose(x < least, least, x);
    x = choose(x > most, most, x);
    vec n = (x * 1.44269504f + 12582912.0f) - 12582912.0f;
    vec r = (x - n * 0.693359375f) + n * 2.12194440e-4f, p = all(1.9875691500e-4f);
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * (r * r) + r + 1.0f;
    return p * (vec)((__builtin_convertvector(n, veci) + 127) << 23);
}

static inline vec sigmoid(vec x) { return 1.0f / (1.0f + exp_of(-x)); }

/* The first n < W floats at p, and nothing beyond them; the rest is zero */
static inline vec load_part(const float *p, long n) {
    float x[W] = {0};
    memcpy(x, p, 4 * n);
    return load(x);
}

static inline void store_part(float *p, vec x, long n) { memcpy(p, &x, 4 * n); }

#define LOAD(p) (left >= W ? load(p) : load_part(p, left))
#define STORE(p, x) (left >= W ? store(p, x) : store_part(p, x, left))
#define EACH(i, n) for (long i = 0, left = (n); left > 0; i += W, left -= W)

#endif
