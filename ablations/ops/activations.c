/* SwiGLU and GELU, with gradients that work out again what the forward pass knew. */

#include "vectors.h"

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
