/* Causal attention from the result of one linear layer to the input of the next: no copies by head, no weights in
 * memory (Dao et al. 2022), nothing of the half that is not seen. */

#include "tile.h"

#define PANEL 64 /* query rows whose weights are kept at once in the backward pass: 2 x 32 KiB at T = 128 */
#define LOG2E 1.44269504088896340736f

/* ROWS rows and n columns of C = A B, n a multiple of W; or that much more */
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

/* x where column j + i of the row is at most `last`, else `other` */
static inline vec seen(vec x, long j, long last, float other) {
    if (j + W - 1 <= last) return x;
    const veci mask = (COLUMN + (int32_t)j) <= (int32_t)last;
    return choose(mask, x, all(other));
}

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

/* y_BTHK = softmax(q k' / sqrt K, causal) v with q, k, v in qkv (B, T, 3, H, K), q and k turned by `turns`.
 * norms (B, H, T, 2): of each row the largest score and the inverse of the sum, for the backward pass.
 * Returns 0, or -1 when there is no memory for the scratch space. */
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
                for (long r = 0; r < ROWS; r++) {
                    tops[r] = seen(load(P + r * Tp), 0, t + r, -INFINITY);
                    sums[r] = (vec){0};
                }
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
