/* The tile that every matrix product here is made of. */

#ifndef ALGOPROGRESS_TILE_H
#define ALGOPROGRESS_TILE_H

#include "vectors.h"

#define ROWS 4 /* of a tile; with three registers of columns, 12 sums cover the latency of two multiply-add units */

#if defined(__AVX__)
#define KEEP(x) __asm__("" : "+x"(x)) /* in a register: loaded once, not again as an operand of each multiply-add */
#else
#define KEEP(x) (void)0
#endif

/* C (ROWS x nv W) = S + A B: A is ROWS x k with element (r, i) at A[r rs + i cs], B is k x nv W with rows ldb apart,
 * S has rows lds apart (0: the same row again) or is NULL for zero, and may be C */
__attribute__((always_inline)) static inline void tile(int nv, long k, const float *A, long rs, long cs, const float *B,
                                                       long ldb, const float *S, long lds, float *C, long ldc) {
    vec c[ROWS][3];
    for (int r = 0; r < ROWS; r++)
        for (int v = 0; v < nv; v++) c[r][v] = S ? load(S + r * lds + v * W) : (vec){0};
    for (long i = 0; i < k; i++, A += cs, B += ldb) {
        vec b[3];
        for (int v = 0; v < nv; v++) {
            b[v] = load(B + v * W);
            KEEP(b[v]);
        }
        for (int r = 0; r < ROWS; r++) {
            vec a = all(A[r * rs]);
            for (int v = 0; v < nv; v++) c[r][v] += a * b[v];
        }
    }
    for (int r = 0; r < ROWS; r++)
        for (int v = 0; v < nv; v++) store(C + r * ldc + v * W, c[r][v]);
}

#endif
