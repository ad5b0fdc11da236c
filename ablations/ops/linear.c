/* A linear layer and its gradients. The weight is laid out anew at each call, which is little beside the product; the
 * result is written once, with bias or residual already in it. */

#include "gemm.h"

/* y (M, N) = x (M, K) weight' (N, K) + start: start a bias (one row) if `per_row` is 0, else M rows, or NULL */
int linear_forward(const float *x, const float *weight, const float *start, long per_row, long M, long K, long N,
                   float *y) {
    float *panels = aligned_alloc(64, up(4 * up(N, COLS) * K, 64));
    if (!panels) return -1;
    panels_of_transpose(weight, K, N, panels);
    gemm(M, N, K, x, panels, start, per_row ? N : 0, y);
    free(panels);
    return 0;
}

/* dx (M, K) = dy (M, N) weight */
int linear_backward_input(const float *dy, const float *weight, long M, long K, long N, float *dx) {
    float *panels = aligned_alloc(64, up(4 * up(K, COLS) * N, 64));
    if (!panels) return -1;
    panels_of(weight, K, N, K, COLS, panels);
    gemm(M, K, N, dy, panels, NULL, 0, dx);
    free(panels);
    return 0;
}

#define STRIP 16  /* columns of dy that are packed together: a cache line */
#define HEIGHT 64 /* rows of x and dy at a time: a strip and a panel fit the first cache */

/* dweight (N, K) = dy' x */
int linear_backward_weight(const float *dy, const float *x, long M, long K, long N, float *dweight) {
    long Kp = up(K, COLS), Np = up(N, STRIP);
    float *panels = aligned_alloc(64, 4 * up(HEIGHT * (Kp + Np) + Np * Kp, 16));
    if (!panels) return -1;
    float *strips = panels + HEIGHT * Kp, *C = strips + HEIGHT * Np;
    memset(C, 0, 4 * Np * Kp);
    for (long m = 0; m < M; m += HEIGHT) {
        long height = M - m < HEIGHT ? M - m : HEIGHT;
        panels_of(x + m * K, K, height, K, COLS, panels);
        panels_of(dy + m * N, N, height, N, STRIP, strips);
        for (long n = 0; n < Np; n += STRIP)
            for (long p = 0; p < K; p += COLS)
                for (long j = 0; j < STRIP; j += ROWS) {
                    float *c = C + (n + j) * Kp + p;
                    const float *A = strips + n * height + j, *B = panels + p * height;
                    if (K - p > 2 * W) tile(3, height, A, 1, STRIP, B, COLS, c, Kp, c, Kp);
                    else if (K - p > W) tile(2, height, A, 1, STRIP, B, COLS, c, Kp, c, Kp);
                    else tile(1, height, A, 1, STRIP, B, COLS, c, Kp, c, Kp);
                }
    }
    for (long n = 0; n < N; n++) memcpy(dweight + n * K, C + n * Kp, 4 * K);
    free(panels);
    return 0;
}

/* sums (N) of the columns of dy (M, N): the gradient of a bias */
void column_sums(const float *dy, long M, long N, float *sums) {
    memset(sums, 0, 4 * N);
    for (long m = 0; m < M; m++, dy += N) EACH(n, N) STORE(sums + n, LOAD(sums + n) + LOAD(dy + n));
}
