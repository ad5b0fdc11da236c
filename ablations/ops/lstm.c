/* One LSTM layer over T steps of B streams (Hochreiter and Schmidhuber 1997, with the forget gate of Gers et al. 2000)
 * and its gradient. Arrays are time-major. The order of the gates is torch's: input, forget, cell, output. */

#include "gemm.h"

static inline vec tanh_of(vec x) {
    vec e = exp_of(-2.0f * x);
    return (1.0f - e) / (1.0f + e);
}

/* In: gates (T, B, 4 D), the part of the inputs with both biases; h0, c0 (B, D); weight (4 D, D) of the recurrence.
 * Out: gates as they are applied, cells and y (T, B, D). */
int lstm_forward(const float *weight, const float *h0, const float *c0, long T, long B, long D, float *gates,
                 float *cells, float *y) {
    float *panels = aligned_alloc(64, up(4 * up(4 * D, COLS) * D, 64));
    if (!panels) return -1;
    panels_of_transpose(weight, D, 4 * D, panels);
    for (long t = 0; t < T; t++, gates += 4 * B * D, cells += B * D, y += B * D) {
        const float *h = t ? y - B * D : h0, *before = t ? cells - B * D : c0;
        gemm(B, 4 * D, D, h, panels, gates, 4 * D, gates);
        for (long b = 0; b < B; b++) {
            float *z = gates + 4 * b * D;
            EACH(i, D) {
                vec in = sigmoid(LOAD(z + i)), keep = sigmoid(LOAD(z + D + i)), new = tanh_of(LOAD(z + 2 * D + i)),
                    out = sigmoid(LOAD(z + 3 * D + i)), cell = keep * LOAD(before + b * D + i) + in * new;
                STORE(z + i, in);
                STORE(z + D + i, keep);
                STORE(z + 2 * D + i, new);
                STORE(z + 3 * D + i, out);
                STORE(cells + b * D + i, cell);
                STORE(y + b * D + i, out * tanh_of(cell));
            }
        }
    }
    free(panels);
    return 0;
}

/* In: dy (T, B, D); dh, dc (B, D), of the state after the last step. Out: dgates (T, B, 4 D), before the activations;
 * dh, dc, of the state before the first step. */
int lstm_backward(const float *dy, const float *weight, const float *gates, const float *cells, const float *c0, long T,
                  long B, long D, float *dgates, float *dh, float *dc) {
    float *panels = aligned_alloc(64, up(4 * up(D, COLS) * 4 * D, 64));
    if (!panels) return -1;
    panels_of(weight, D, 4 * D, D, COLS, panels);
    for (long t = T - 1; t >= 0; t--) {
        const float *cell = cells + t * B * D, *before = t ? cell - B * D : c0;
        float *dz = dgates + 4 * t * B * D;
        for (long b = 0; b < B; b++) {
            const float *z = gates + 4 * (t * B + b) * D, *g = dy + (t * B + b) * D;
            float *to = dz + 4 * b * D, *h = dh + b * D, *c = dc + b * D;
            EACH(i, D) {
                vec in = LOAD(z + i), keep = LOAD(z + D + i), new = LOAD(z + 2 * D + i), out = LOAD(z + 3 * D + i),
                    shown = tanh_of(LOAD(cell + b * D + i)), a = LOAD(g + i) + LOAD(h + i),
                    s = LOAD(c + i) + a * out * (1.0f - shown * shown);
                STORE(to + i, s * new * in * (1.0f - in));
                STORE(to + D + i, s * LOAD(before + b * D + i) * keep * (1.0f - keep));
                STORE(to + 2 * D + i, s * in * (1.0f - new * new));
                STORE(to + 3 * D + i, a * shown * out * (1.0f - out));
                STORE(c + i, s * keep);
            }
        }
        gemm(B, D, 4 * D, dz, panels, NULL, 0, dh);
    }
    free(panels);
    return 0;
}
