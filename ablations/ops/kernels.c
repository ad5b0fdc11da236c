/* Parts of a training step that are bound by memory when each is several passes of a library: attention, norms,
 * activations and cross-entropy, each in one pass with its gradient. float, one thread, no state.
 *
 * Shapes: B sequences, T context, H heads, K head dimension, D = H K, F feed-forward width, N rows, V vocabulary.
 * Matrices are row-major. The matrix products of the layers are not here: the BLAS does them near the machine's peak.
 */

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
#define ROWS 4 /* of a tile; with three registers of columns, 12 sums cover the latency of two multiply-add units */
#define PANEL 64 /* query rows whose weights are kept at once in the backward pass: 2 x 32 KiB at T = 128 */

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

/* x where column j + i of the row is at most `last`, else `other` */
static inline vec seen(vec x, long j, long last, float other) {
    if (j + W - 1 <= last) return x;
    const veci mask = (COLUMN + (int32_t)j) <= (int32_t)last;
    return choose(mask, x, all(other));
}

static inline long up(long n, long to) { return (n + to - 1) / to * to; }

/* 2^x for x <= 126; the polynomial is that of exp2f in Moshier's Cephes library, relative error 2e-7 */
static inline vec exp2_of(vec x) {
    const vec least = all(-126.0f);
    x = choose(x < least, least, x);
    vec n = (x + 12582912.0f) - 12582912.0f; /* 1.5 * 2^23: rounds to the nearest integer */
    vec r = x - n, p = all(1.535336188319500e-4f);
    p = p * r + 1.339887440266574e-3f;
    p = p * r + 9.618437357674640e-3f;
    p = p * r + 5.550332471162809e-2f;
    p = p * r + 2.402264791363012e-1f;
    p = p * r + 6.931472028550421e-1f;
    p = p * r + 1.0f;
    return p * (vec)((__builtin_convertvector(n, veci) + 127) << 23);
}

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

/* The first n < W floats at p, and nothing beyond them; the rest is zero */
static inline vec load_part(const float *p, long n) {
    float x[W] = {0};
    memcpy(x, p, 4 * n);
    return load(x);
}

static inline void store_part(float *p, vec x, long n) { memcpy(p, &x, 4 * n); }

#define LOAD(p) (left >= W ? load(p) : load_part(p, left))
#define STORE(p, x) (left >= W ? store(p, x) : store_part(p, x, left))
#define EACH(i, n) for (long i = 0, left = n; left > 0; i += W, left -= W)

/* ------------------------------------------------------------------------------------------------ products */

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

/* The same for n columns, a multiple of W */
__attribute__((always_inline)) static inline void rows(long n, long k, const float *A, long rs, long cs, const float *B,
                                                       long ldb, int add, float *C, long ldc) {
    long j = 0;
    for (; n - j >= 3 * W && n - j != 4 * W; j += 3 * W)
        tile(3, k, A, rs, cs, B + j, ldb, add ? C + j : NULL, ldc, C + j, ldc);
    for (; n - j >= 2 * W; j += 2 * W) tile(2, k, A, rs, cs, B + j, ldb, add ? C + j : NULL, ldc, C + j, ldc);
    if (j < n) tile(1, k, A, rs, cs, B + j, ldb, add ? C + j : NULL, ldc, C + j, ldc);
}

/* ROWS rows of A one after the other in memory; their transpose, added to C */
static void product(long n, long k, const float *A, long rs, const float *B, long ldb, float *C, long ldc) {
    rows(n, k, A, rs, 1, B, ldb, 0, C, ldc);
}

static void add_product(long n, long k, const float *A, long cs, const float *B, long ldb, float *C, long ldc) {
    rows(n, k, A, 1, cs, B, ldb, 1, C, ldc);
}

/* ------------------------------------------------------------------------------------------------- linear */

#define COLS (3 * W)
#define DEPTH 384 /* rows of a panel that are used at a time */
#define BLOCK 16

/* B (k x n, rows ldb apart) as panels of `cols` columns (a multiple of W), each k x cols, filled up with zeros */
__attribute__((always_inline)) static inline void panels_of(const float *B, long ldb, long k, long n, long cols,
                                                            float *to) {
    long whole = n / cols * cols;
    for (long i = 0; i < k; i++, B += ldb) {
        float *row = to + i * cols;
        long j = 0;
        for (; j < whole; j += cols, row += k * cols)
            for (long w = 0; w < cols; w += W) store(row + w, load(B + j + w));
        if (j < n) EACH(w, cols) store(row + w, j + w >= n ? (vec){0} : n - j - w >= W ? load(B + j + w) : load_part(B + j + w, n - j - w));
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

/* ----------------------------------------------------------------------------------------------- attention */

#if defined(__clang__)
static inline vec shuffled(vec x, veci from) {
    vec y;
    for (int i = 0; i < W; i++) y[i] = x[from[i]];
    return y;
}
#else
#define shuffled __builtin_shuffle
#endif

/* (a, b) pairs times (cos, sin): as complex numbers, or their conjugates for a `sign` of -1 */
static inline vec turned(vec x, vec turn, float sign) {
    const vec signs = sign * (1.0f - 2.0f * __builtin_convertvector((COLUMN & 1) ^ 1, vec));
    return x * shuffled(turn, COLUMN & ~1) + shuffled(x, COLUMN ^ 1) * (shuffled(turn, COLUMN | 1) * signs);
}

/* T rows of length K, `stride` apart, times `scale` and turned by `turns` (T, K/2, 2) if there are any, to rows of Kp */
static void pack(long T, long K, long Kp, const float *x, long stride, const float *turns, float scale, float *to) {
    for (long t = 0; t < T; t++, x += stride, to += Kp) EACH(i, K) {
        vec a = scale * LOAD(x + i);
        store(to + i, turns ? turned(a, LOAD(turns + t * K + i), 1.0f) : a);
    }
}

/* Back, turned the other way */
static void unpack(long T, long K, long Kp, const float *from, const float *turns, float scale, float *x, long stride) {
    for (long t = 0; t < T; t++, x += stride, from += Kp) EACH(i, K) {
        vec a = scale * load(from + i);
        STORE(x + i, turns ? turned(a, LOAD(turns + t * K + i), -1.0f) : a);
    }
}

/* Tp is a multiple of W, and x has Tp rows */
static void transpose(long Tp, long Kp, const float *x, float *to) {
    for (long t = 0; t < Tp; t += W)
        for (long i = 0; i < Kp; i++) {
            vec column;
            for (int w = 0; w < W; w++) column[w] = x[(t + w) * Kp + i];
            store(to + i * Tp + t, column);
        }
}

#define LOG2E 1.44269504088896340736f

/* y_BTHK = softmax(q k' / sqrt K, causal) v with q, k, v in qkv (B, T, 3, H, K), q and k turned by `turns`.
 * norms (B, H, T, 2): of each row the largest score and the inverse of the sum, for the backward pass. Returns 0, or -1 without memory. */
int attention_forward(const float *qkv, const float *turns, long B, long T, long H, long K, float *y, float *norms) {
    long Kp = up(K, W), Tp = up(T, W > ROWS ? W : ROWS), D = H * K;
    float *memory = aligned_alloc(64, up(4 * (4 * Tp * Kp + ROWS * Tp + ROWS * Kp), 64));
    if (!memory) return -1;
    memset(memory, 0, 4 * (4 * Tp * Kp + ROWS * Tp + ROWS * Kp));
    float *q = memory, *k = q + Tp * Kp, *kT = k + Tp * Kp, *v = kT + Tp * Kp, *P = v + Tp * Kp, *o = P + ROWS * Tp;
    float scale = LOG2E / sqrtf((float)K);
    for (long b = 0; b < B; b++)
        for (long h = 0; h < H; h++) {
            const float *x = qkv + b * T * 3 * D + h * K;
            pack(T, K, Kp, x, 3 * D, turns, scale, q);
            pack(T, K, Kp, x + D, 3 * D, turns, 1.0f, k);
            pack(T, K, Kp, x + 2 * D, 3 * D, NULL, 1.0f, v);
            transpose(Tp, Kp, k, kT);
            for (long t = 0; t < T; t += ROWS) {
                long n = up(t + ROWS, W);
                product(n, K, q + t * Kp, Kp, kT, Tp, P, Tp);
                vec tops[ROWS], sums[ROWS];
                float inverse[ROWS];
                for (long r = 0; r < ROWS; r++) tops[r] = seen(load(P + r * Tp), 0, t + r, -INFINITY), sums[r] = (vec){0};
                for (long j = W; j < n; j += W)
                    for (long r = 0; r < ROWS; r++) {
                        vec s = seen(load(P + r * Tp + j), j, t + r, -INFINITY);
                        tops[r] = choose(s > tops[r], s, tops[r]);
                    }
                for (long r = 0; r < ROWS; r++) tops[r] = all(largest_of(tops[r]));
                for (long j = 0; j < n; j += W)
                    for (long r = 0; r < ROWS; r++) {
                        vec e = seen(exp2_of(load(P + r * Tp + j) - tops[r]), j, t + r, 0.0f);
                        store(P + r * Tp + j, e);
                        sums[r] += e;
                    }
                for (long r = 0; r < ROWS; r++) {
                    inverse[r] = 1.0f / sum_of(sums[r]);
                    if (t + r < T) {
                        float *norm = norms + ((b * H + h) * T + t + r) * 2;
                        norm[0] = tops[r][0], norm[1] = inverse[r];
                    }
                }
                product(Kp, n, P, Tp, v, Kp, o, Kp);
                for (long r = 0; r < ROWS && t + r < T; r++) {
                    float *to = y + (b * T + t + r) * D + h * K;
                    EACH(i, K) STORE(to + i, load(o + r * Kp + i) * inverse[r]);
                }
            }
        }
    free(memory);
    return 0;
}

/* dqkv (B, T, 3, H, K) from dy (B, T, H, K); the weights are worked out again from qkv and norms */
int attention_backward(const float *dy, const float *qkv, const float *turns, const float *norms, long B, long T,
                       long H, long K, float *dqkv) {
    long Kp = up(K, W), Tp = up(T, W > ROWS ? W : ROWS), D = H * K, M = PANEL < Tp ? PANEL : Tp;
    size_t bytes = up(4 * (9 * Tp * Kp + 2 * M * Tp), 64);
    float *memory = aligned_alloc(64, bytes);
    if (!memory) return -1;
    memset(memory, 0, bytes);
    float *q = memory, *k = q + Tp * Kp, *kT = k + Tp * Kp, *v = kT + Tp * Kp, *vT = v + Tp * Kp, *g = vT + Tp * Kp,
          *dq = g + Tp * Kp, *dk = dq + Tp * Kp, *dv = dk + Tp * Kp, *P = dv + Tp * Kp, *S = P + M * Tp;
    float root = 1.0f / sqrtf((float)K), scale = LOG2E * root;
    for (long b = 0; b < B; b++)
        for (long h = 0; h < H; h++) {
            const float *x = qkv + b * T * 3 * D + h * K;
            pack(T, K, Kp, x, 3 * D, turns, scale, q);
            pack(T, K, Kp, x + D, 3 * D, turns, 1.0f, k);
            pack(T, K, Kp, x + 2 * D, 3 * D, NULL, 1.0f, v);
            pack(T, K, Kp, dy + b * T * D + h * K, D, NULL, 1.0f, g);
            transpose(Tp, Kp, k, kT);
            transpose(Tp, Kp, v, vT);
            memset(dk, 0, 4 * 2 * Tp * Kp); /* and dv */
            for (long t0 = 0; t0 < T; t0 += M) {
                long end = t0 + M < Tp ? t0 + M : Tp;
                for (long t = t0; t < end; t += ROWS) {
                    long n = up(t + ROWS, W);
                    float *p0 = P + (t - t0) * Tp, *s0 = S + (t - t0) * Tp;
                    product(n, K, q + t * Kp, Kp, kT, Tp, p0, Tp);
                    product(n, K, g + t * Kp, Kp, vT, Tp, s0, Tp);
                    vec dots[ROWS] = {{0}}, tops[ROWS], inverses[ROWS];
                    for (long r = 0; r < ROWS; r++) {
                        const float *norm = norms + ((b * H + h) * T + (t + r < T ? t + r : 0)) * 2;
                        tops[r] = all(norm[0]), inverses[r] = all(norm[1]);
                    }
                    for (long j = 0; j < n; j += W)
                        for (long r = 0; r < ROWS; r++) {
                            float *p = p0 + r * Tp + j;
                            vec e = seen(exp2_of(load(p) - tops[r]) * inverses[r], j, t + r, 0.0f);
                            store(p, e);
                            dots[r] += e * load(s0 + r * Tp + j);
                        }
                    for (long r = 0; r < ROWS; r++) dots[r] = all(sum_of(dots[r]));
                    for (long j = 0; j < n; j += W)
                        for (long r = 0; r < ROWS; r++) {
                            float *s = s0 + r * Tp + j;
                            store(s, load(p0 + r * Tp + j) * (load(s) - dots[r]));
                        }
                    product(Kp, n, s0, Tp, k, Kp, dq + t * Kp, Kp);
                }
                for (long j = 0; j < end; j += ROWS) {
                    long first = j > t0 ? j : t0; /* earlier queries do not see these keys */
                    add_product(Kp, end - first, P + (first - t0) * Tp + j, Tp, g + first * Kp, Kp, dv + j * Kp, Kp);
                    add_product(Kp, end - first, S + (first - t0) * Tp + j, Tp, q + first * Kp, Kp, dk + j * Kp, Kp);
                }
            }
            float *to = dqkv + b * T * 3 * D + h * K;
            unpack(T, K, Kp, dq, turns, root, to, 3 * D);
            unpack(T, K, Kp, dk, turns, 1.0f / LOG2E, to + D, 3 * D);
            unpack(T, K, Kp, dv, NULL, 1.0f, to + 2 * D, 3 * D);
        }
    free(memory);
    return 0;
}

/* --------------------------------------------------------------------------------------------------- norms */

/* y = x / sqrt(mean x^2 + eps) * weight, by rows; rates_N: 1 / sqrt(...) */
void rmsnorm_forward(const float *x, const float *weight, long N, long D, float eps, float *y, float *rates) {
    for (long n = 0; n < N; n++, x += D, y += D) {
        float sum = 0.0f;
#pragma omp simd reduction(+ : sum)
        for (long i = 0; i < D; i++) sum += x[i] * x[i];
        float rate = rates[n] = 1.0f / sqrtf(sum / D + eps);
#pragma omp simd
        for (long i = 0; i < D; i++) y[i] = x[i] * rate * weight[i];
    }
}

void rmsnorm_backward(const float *dy, const float *x, const float *weight, const float *rates, long N, long D,
                      float *dx, float *dweight) {
    memset(dweight, 0, 4 * D);
    for (long n = 0; n < N; n++, x += D, dy += D, dx += D) {
        float rate = rates[n], dot = 0.0f;
#pragma omp simd reduction(+ : dot)
        for (long i = 0; i < D; i++) dot += dy[i] * weight[i] * x[i];
        dot *= rate * rate / D;
#pragma omp simd
        for (long i = 0; i < D; i++) {
            dweight[i] += dy[i] * x[i] * rate;
            dx[i] = rate * (dy[i] * weight[i] - x[i] * dot);
        }
    }
}

/* --------------------------------------------------------------------------------------------- activations */

static inline vec sigmoid(vec x) { return 1.0f / (1.0f + exp_of(-x)); }

/* y_NF = silu(h[:, :F]) h[:, F:] */
void swiglu_forward(const float *h, long N, long F, float *y) {
    for (long n = 0; n < N; n++, h += 2 * F, y += F) EACH(i, F) {
        vec gate = LOAD(h + i);
        STORE(y + i, gate * sigmoid(gate) * LOAD(h + F + i));
    }
}

/* dh may be h */
void swiglu_backward(const float *dy, const float *h, long N, long F, float *dh) {
    for (long n = 0; n < N; n++, h += 2 * F, dh += 2 * F, dy += F) EACH(i, F) {
        vec g = LOAD(dy + i), gate = LOAD(h + i), open = sigmoid(gate), silu = gate * open, value = LOAD(h + F + i);
        STORE(dh + i, g * value * (open + silu * (1.0f - open)));
        STORE(dh + F + i, g * silu);
    }
}

/* The normal distribution function at x, given e^(-x^2 / 2): Abramowitz and Stegun 7.1.26, absolute error 1e-7 */
static inline vec normal_cdf(vec x, vec e) {
    vec size = choose(x < 0.0f, -x, x);
    vec t = 1.0f / (1.0f + 0.3275911f * 0.70710678f * size), p = all(1.061405429f);
    p = p * t - 1.453152027f;
    p = p * t + 1.421413741f;
    p = p * t - 0.284496736f;
    p = p * t + 0.254829592f;
    vec tail = 0.5f * p * t * e;
    return choose(x < 0.0f, tail, 1.0f - tail);
}

void gelu_forward(const float *x, long n, float *y) {
    EACH(i, n) {
        vec a = LOAD(x + i);
        STORE(y + i, a * normal_cdf(a, exp_of(-0.5f * a * a)));
    }
}

/* dx may be x */
void gelu_backward(const float *dy, const float *x, long n, float *dx) {
    EACH(i, n) {
        vec a = LOAD(x + i), e = exp_of(-0.5f * a * a);
        STORE(dx + i, LOAD(dy + i) * (normal_cdf(a, e) + 0.3989422804f * a * e));
    }
}

/* ------------------------------------------------------------------------------------------- cross-entropy */

/* The sum of -ln softmax(logits)[target] over the rows; the logits become its gradient times `scale` */
double cross_entropy(float *logits, const int64_t *targets, long N, long V, float scale) {
    double loss = 0.0;
    for (long n = 0; n < N; n++, logits += V) {
        long whole = V / W * W, i = 0;
        float at = logits[targets[n]], top = logits[V - 1];
        vec tops = all(top), sums = {0};
        for (; i < whole; i += W) tops = choose(load(logits + i) > tops, load(logits + i), tops);
        for (top = largest_of(tops); i < V; i++) top = logits[i] > top ? logits[i] : top;
        for (i = 0; i < whole; i += W) {
            vec e = exp_of(load(logits + i) - top);
            store(logits + i, e);
            sums += e;
        }
        float sum = sum_of(sums);
        for (; i < V; i++) sum += logits[i] = expf(logits[i] - top);
        loss += logf(sum) + top - at;
        float share = scale / sum;
        for (i = 0; i < V; i++) logits[i] *= share;
        logits[targets[n]] -= scale;
    }
    return loss;
}
