/* RMSNorm (Zhang and Sennrich 2019) and LayerNorm (Ba et al. 2016) over rows of length D, and their gradients. */

#include "vectors.h"

/* rates (M): 1 / sqrt(mean x^2 + eps) of each row; y = x rate weight */
void rmsnorm_forward(const float *x, const float *weight, long M, long D, float eps, float *y, float *rates) {
    for (long m = 0; m < M; m++, x += D, y += D) {
        vec squares = {0};
        EACH(i, D) {
            vec a = LOAD(x + i);
            squares += a * a;
        }
        float rate = rates[m] = 1.0f / sqrtf(sum_of(squares) / D + eps);
        EACH(i, D) STORE(y + i, LOAD(x + i) * rate * LOAD(weight + i));
    }
}

void rmsnorm_backward(const float *dy, const float *x, const float *weight, const float *rates, long M, long D,
                      float *dx, float *dweight) {
    memset(dweight, 0, 4 * D);
    for (long m = 0; m < M; m++, x += D, dy += D, dx += D) {
        vec dots = {0};
        EACH(i, D) dots += LOAD(dy + i) * LOAD(weight + i) * LOAD(x + i);
        float rate = rates[m], mean = sum_of(dots) * rate * rate / D;
        EACH(i, D) {
            vec g = LOAD(dy + i), a = LOAD(x + i);
            STORE(dweight + i, LOAD(dweight + i) + g * a * rate);
            STORE(dx + i, rate * (g * LOAD(weight + i) - a * mean));
        }
    }
}

/* moments (M, 2): mean and 1 / sqrt(variance + eps) of each row; y = (x - mean) rate weight + bias */
void layernorm_forward(const float *x, const float *weight, const float *bias, long M, long D, float eps, float *y,
                       float *moments) {
    for (long m = 0; m < M; m++, x += D, y += D) {
        vec sums = {0}, squares = {0};
        EACH(i, D) sums += LOAD(x + i);
        float mean = sum_of(sums) / D;
        EACH(i, D) {
            vec a = LOAD(x + i) - mean;
            squares += a * a;
        }
        /* the zeros beyond a row of odd length are -mean here */
        float rate = 1.0f / sqrtf((sum_of(squares) - (up(D, W) - D) * mean * mean) / D + eps);
        moments[2 * m] = mean, moments[2 * m + 1] = rate;
        EACH(i, D) STORE(y + i, (LOAD(x + i) - mean) * rate * LOAD(weight + i) + LOAD(bias + i));
    }
}

void layernorm_backward(const float *dy, const float *x, const float *weight, const float *moments, long M, long D,
                        float *dx, float *dweight, float *dbias) {
    memset(dweight, 0, 4 * D);
    memset(dbias, 0, 4 * D);
    for (long m = 0; m < M; m++, x += D, dy += D, dx += D) {
        float mean = moments[2 * m], rate = moments[2 * m + 1];
        vec sums = {0}, dots = {0};
        EACH(i, D) {
            vec g = LOAD(dy + i) * LOAD(weight + i);
            sums += g;
            dots += g * (LOAD(x + i) - mean);
        }
        float sum = sum_of(sums) / D, dot = sum_of(dots) * rate * rate / D;
        EACH(i, D) {
            vec g = LOAD(dy + i), a = LOAD(x + i) - mean;
            STORE(dbias + i, LOAD(dbias + i) + g);
            STORE(dweight + i, LOAD(dweight + i) + g * a * rate);
            STORE(dx + i, rate * (g * LOAD(weight + i) - sum - a * dot));
        }
    }
}
