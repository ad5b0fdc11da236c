"""How much memory does a run take on its device? Asked before several runs are put on one GPU.

What stays: weights, their gradients, the optimizer's state. What a step adds: everything that the backward pass reads
again, counted by running one sequence through the model and scaled to a batch. What a framework adds: its context.
"""

from __future__ import annotations

import math

from algoprogress.ablations.spec import RunSpec

CONTEXT_BYTES = 600 * 2**20  # CUDA's context and cuBLAS's workspace: 300 to 500 MiB on the GPUs that we know of
SPARE = 1.25  # of what is counted: workspaces, fragments, and the logits' gradient beside the logits


def saved_bytes(spec: RunSpec) -> int:
    """Bytes that autograd keeps of one sequence between forward and backward, weights excepted."""
    import torch

    from algoprogress.pipeline.gradient import loss_of

    torch.manual_seed(0)
    model = spec.architecture.build(spec.data.vocab_size, spec.data.context)
    if spec.dtype == "float64":
        model = model.double()
    weights = {p.untyped_storage().data_ptr() for p in model.parameters()}
    kept: dict[int, int] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    rows = 2 if spec.architecture.batch_statistics else 1  # one number has no variance
    x_BT = torch.zeros(rows, spec.data.context, dtype=torch.long)
    y_BT = x_BT[:, :1] if spec.data.images else x_BT
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        loss, _ = loss_of(model, x_BT, y_BT, None, spec.dtype)
    del loss
    return sum(kept.values()) // rows


def estimate(spec: RunSpec) -> int:
    """Bytes that a run takes on a GPU of its own process, about; its batch in one part.

    Counted for the architecture itself; a reparameterization trains fewer weights but keeps the product of its factors.
    """
    size = 8 if spec.dtype == "float64" else 4
    fixed = 2 * size * (spec.n_params_total + (spec.n_params_trained if spec.reparameterization is not None else 0))
    step = saved_bytes(spec) * (spec.batch_tokens // spec.data.context)
    return math.ceil(SPARE * (fixed + spec.optimizer_bytes + step)) + CONTEXT_BYTES
