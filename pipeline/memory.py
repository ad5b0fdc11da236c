"""How much memory does a run take on its device? Asked before several runs are put on one GPU.

What stays: weights, their gradients, the optimizer's state. What a step adds: everything that the backward pass reads
again, counted by running one sequence through the model and scaled to a batch. What a framework adds: its context.
"""

from __future__ import annotations

import math
import subprocess
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from algoprogress.pipeline.executors import Unfit

if TYPE_CHECKING:
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


def gpu_bytes() -> int | None:
    """Memory of this machine's smallest GPU, asked of its driver; None where there is none to ask."""
    words = ["nvidia-smi", "--query-gpu=memory.total", "--format=csv,noheader,nounits"]
    try:
        said = subprocess.run(words, capture_output=True, text=True, timeout=10, check=False).stdout.split()
    except (OSError, subprocess.TimeoutExpired):
        return None
    found = [int(mib) * 2**20 for mib in said if mib.isdigit()]
    return min(found, default=None)


def check_share(specs: Iterable[RunSpec], share: float, gpus: Mapping[str, int | None]) -> list[str]:
    """Whether each run fits its share of a GPU, by the estimate of `memory.estimate`.

    Args:
        specs: the runs, of which one of each shape is looked at.
        share: of a GPU, for one run; a whole one or more is not looked at, since a run that does not fit is trained in
            parts and harms no other.
        gpus: node -> bytes of its smallest GPU, None where that is unknown.

    Returns:
        What should be doubted: nodes that could not be asked.

    Raises:
        Unfit: a run does not fit.
    """
    if not 0 < share < 1:
        return []
    spec, doubts = neediest(specs), []
    for node, has in gpus.items():
        if has is None or spec is None:
            doubts.append(f"{node} does not tell the memory of its GPUs: {share:g} of one may be too little for a run")
        elif (needed := estimate(spec)) > share * has:
            wanted = needed / has
            advice = f"ask for --gpus-per-run {math.ceil(20 * wanted) / 20:g}" if wanted <= 1 else "use a larger GPU"
            raise Unfit(
                f"a run of {spec.n_params_total:,} parameters takes about {size(needed)}, and {share:g} of a GPU of "
                f"{node} is {size(share * has)}: {advice}, or smaller batches"
            )
    return doubts


def neediest(specs: Iterable[RunSpec]) -> RunSpec | None:
    """The run that takes most memory; None if there is no run."""
    shapes = {(spec.architecture, spec.batch_tokens, spec.data.context, spec.dtype): spec for spec in specs}
    return max(shapes.values(), key=estimate) if len(shapes) > 1 else next(iter(shapes.values()), None)


def size(n_bytes: float) -> str:
    """Bytes as people write them."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if n_bytes < 1000:
            return f"{n_bytes:.3g} {unit}"
        n_bytes /= 1000
    return f"{n_bytes:.3g} TB"
