/* C = S + A B for a tall A and a B that is small enough to be laid out anew for each product. */

#ifndef ALGOPROGRESS_GEMM_H
#define ALGOPROGRESS_GEMM_H

#include "tile.h"

#define COLS (3 * W)
#define DEPTH 384 /* rows of a panel that are used at a time: 36 KiB; with 256 products over 257 to 384 are slower */
#define BLOCK 16  /* rows of A that meet one panel after the other: they stay in the first cache */

/* B (k x n, rows ldb apart) as panels of `cols` columns (a multiple of W), each k x cols, filled up with zeros */
__attribute__((always_inline)) static inline void panels_of(const float *B, long ldb, long k, long n, long cols,
                                                            float *to) {
    long whole = n / cols * cols;
    for (long i = 0; i < k; i++, B += ldb) {
        float *row = to + i * cols;
        long j = 0;
        for (; j < whole; j += cols, row += k * cols)
            for (long w = 0; w < cols; w += W) store(row + w, load(B + j + w));
        for (long w = 0; j < n && w < cols; w += W) {
            long left = n - j - w;
            store(row + w, left <= 0 ? (vec){0} : LOAD(B + j + w));
        }
    }
}

/* The same of the transpose of B (n x k) */
static void panels_of_transpose(const float *B, long k, long n, float *to) {
    for (long p = 0; p < n; p += COLS, to += k * COLS) {
        long width = n - p < COLS ? n - p : COLS;
        if (width < COLS) memset(to, 0, 4 * k * COLS);
        for (long j = 0; j < width; j++)
            for (long i = 0; i < k; i++) to[i * COLS + j] = B[(p + j) * k + i];
    }
}

/* C (m x n) = S + A (m x k) B for up to ROWS rows and COLS columns, where a whole tile would reach beyond them */
static void edge(long m, long n, long k, const float *A, long lda, const float *B, const float *S, long lds, float *C,
                 long ldc) {
    float sums[ROWS * COLS] = {0};
    for (long r = 0; r < m; r++) {
        if (S) memcpy(sums + r * COLS, S + r * lds, 4 * n);
        for (long i = 0; i < k; i++)
            for (long j = 0; j < COLS; j++) sums[r * COLS + j] += A[r * lda + i] * B[i * COLS + j];
        memcpy(C + r * ldc, sums + r * COLS, 4 * n);
    }
}

/* C (M x N) = S + A (M x k) B, B in panels; S with rows lds apart or NULL */
static void gemm(long M, long N, long k, const float *A, const float *panels, const float *S, long lds, float *C) {
    for (long i = 0; i < k; i += DEPTH, S = C, lds = N) {
        long depth = k - i < DEPTH ? k - i : DEPTH;
        for (long m0 = 0; m0 < M; m0 += BLOCK) {
            long end = m0 + BLOCK < M ? m0 + BLOCK : M;
            for (long p = 0; p < N; p += COLS) {
                const float *B = panels + p * k + i * COLS;
                long n = N - p < COLS ? N - p : COLS, m = m0;
                if (n == COLS)
                    for (; m + ROWS <= end; m += ROWS)
                        tile(3, depth, A + m * k + i, k, 1, B, COLS, S ? S + m * lds + p : NULL, lds, C + m * N + p, N);
                else
                    for (; m + ROWS <= end; m += ROWS) {
                        float sums[ROWS * COLS] = {0};
                        for (long r = 0; S && r < ROWS; r++) memcpy(sums + r * COLS, S + (m + r) * lds + p, 4 * n);
                        if (n > 2 * W) tile(3, depth, A + m * k + i, k, 1, B, COLS, sums, COLS, sums, COLS);
                        else if (n > W) tile(2, depth, A + m * k + i, k, 1, B, COLS, sums, COLS, sums, COLS);
                        else tile(1, depth, A + m * k + i, k, 1, B, COLS, sums, COLS, sums, COLS);
                        for (long r = 0; r < ROWS; r++) memcpy(C + (m + r) * N + p, sums + r * COLS, 4 * n);
                    }
                if (m < end)
                    edge(end - m, n, depth, A + m * k + i, k, B, S ? S + m * lds + p : NULL, lds, C + m * N + p, N);
            }
        }
    }
}

#endif
