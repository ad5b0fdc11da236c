/* Cross-entropy and its gradient in one go over the logits. */

#include "vectors.h"

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
