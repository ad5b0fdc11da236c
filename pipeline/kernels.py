"""The C files of ablations/ops, compiled for this machine once: found, built, checked, or a reason why not.

A processor of the same kind with the same compiler shares the library in the cache folder. Without a C compiler, or
where a check fails, plain torch does the work.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import platform
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from algoprogress.pipeline.corpora.cache import cache_root, exclusive

if TYPE_CHECKING:
    from algoprogress.ablations.ops.compiled import Kernels

SWITCH = "ALGOPROGRESS_KERNELS"  # 0: never
COMPILERS = ("cc", "gcc", "clang")
# -ffast-math would let a NaN pass for a number, and a diverged run for a finished one
FLAGS = ("-O3", "-march=native", "-ffp-contract=fast", "-fno-math-errno", "-fno-trapping-math", "-shared", "-fPIC")
BUILD_SECONDS = 120
TOLERANCE = 1e-5  # relative to the largest element, of results and gradients; float32 rounds at 6e-8


@cache
def kernels() -> tuple[Kernels | None, str]:
    """The compiled kernels, and their name (12 hex digits of what they were made from); or None and the reason."""
    if os.environ.get(SWITCH) == "0":
        return None, f"{SWITCH} is 0"
    if not sys.platform.startswith(("linux", "darwin")):
        return None, f"no kernels for {sys.platform}"
    compiler = find_compiler()
    if compiler is None:
        return None, f"no C compiler: none of $CC, {', '.join(COMPILERS)} is there"
    try:
        path = build(compiler)
        from algoprogress.ablations.ops.compiled import Kernels

        found = Kernels(path)
    except (OSError, subprocess.SubprocessError, ValueError, AttributeError) as error:
        return None, f"the kernels could not be built: {error}"
    worst = largest_error(found)
    if not worst < TOLERANCE:
        return None, f"the kernels are wrong here: relative error {worst:.1e}"
    return found, path.stem


def find_compiler() -> str | None:
    """$CC or the first of COMPILERS that is on the path."""
    return next(
        (found for name in (os.environ.get("CC", ""), *COMPILERS) if name and (found := shutil.which(name))), None
    )


def build(compiler: str) -> Path:
    """The shared library, compiled unless the cache holds it."""
    from algoprogress.ablations.ops.compiled import SOURCES

    version = subprocess.run([compiler, "--version"], capture_output=True, text=True, timeout=30, check=True).stdout
    made_from = [version, " ".join(FLAGS), processor(), *(path.read_text(encoding="utf-8") for path in SOURCES)]
    name = hashlib.sha256("\0".join(made_from).encode()).hexdigest()[:12]
    final = cache_root() / "kernels" / f"{name}.so"
    if not final.exists():
        with exclusive(f"kernels-{name}"):
            if not final.exists():
                final.parent.mkdir(parents=True, exist_ok=True)
                part = final.with_suffix(f".{os.getpid()}.tmp")
                sources = [str(path) for path in SOURCES if path.suffix == ".c"]
                done = subprocess.run(
                    [compiler, *FLAGS, *sources, "-o", str(part), "-lm"],
                    capture_output=True,
                    text=True,
                    timeout=BUILD_SECONDS,
                    check=False,
                )
                if done.returncode:
                    part.unlink(missing_ok=True)
                    raise ValueError(done.stderr.strip().splitlines()[0] if done.stderr.strip() else "no message")
                part.replace(final)
    return final


def processor() -> str:
    """The processor's name and instructions: what `-march=native` means."""
    with contextlib.suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return "\n".join(sorted({line for line in lines if line.startswith(("model name", "flags", "Features"))}))
    return f"{platform.machine()} {platform.processor()}"


def largest_error(found: Kernels) -> float:
    """The largest relative difference of any result or gradient from plain torch's in float64, on odd shapes."""
    import torch
    from torch import Tensor, nn

    from algoprogress.ablations import ops

    generator = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    B, T, H, K, V = 3, 37, 2, 12, 29
    D = H * K
    angles = normal(T, 1, K // 2)
    turns = torch.stack([angles.cos(), angles.sin()], -1)
    targets = torch.randint(V, (B * T,), generator=generator)
    linear, rms, layer = nn.Linear(D, 50), nn.RMSNorm(D, eps=1e-6), nn.LayerNorm(D)
    lstm = nn.LSTM(D, 12, 2, batch_first=True)
    with torch.no_grad():
        for parameter in (*lstm.parameters(), *linear.parameters(), *rms.parameters(), *layer.parameters()):
            parameter.copy_(normal(*parameter.shape))
    cases = [
        (lambda m, x: ops.attention(x, H, None), None, normal(B, T, 3 * D)),
        (lambda m, x: ops.attention(x, H, turns.to(x.dtype)), None, normal(B, T, 3 * D)),
        (lambda m, x: ops.linear(m, x), linear, normal(B, T, D)),
        (lambda m, x: ops.linear(m, x[..., :D].contiguous(), x[..., D:].contiguous()), linear, normal(B, T, D + 50)),
        (lambda m, x: ops.lstm(m, x, None)[0], lstm, normal(B, T, D)),
        (lambda m, x: torch.cat(ops.lstm(m, x, None)[1]), lstm, normal(B, T, D)),
        (lambda m, x: ops.norm(m, x), rms, normal(B, T, D)),
        (lambda m, x: ops.norm(m, x), layer, normal(B, T, D)),
        (lambda m, x: ops.swiglu(x), None, 3 * normal(B, T, 2 * D)),
        (lambda m, x: ops.gelu(x), None, 3 * normal(B, T, D)),
        (lambda m, x: ops.cross_entropy(x.flatten(0, 1) * 1.0, targets), None, normal(B, T, V)),
    ]

    def run(case: tuple, dtype: torch.dtype, ways: ops.Ways) -> list[Tensor]:
        function, module, x = case
        module = None if module is None else module.to(dtype)
        x = x.to(dtype).requires_grad_()
        with ops.using(ways):
            y = function(module, x)
        weights = torch.linspace(-1, 2, y.numel(), dtype=dtype).view(y.shape)
        leaves = [x, *([] if module is None else module.parameters())]
        return [y.detach(), *torch.autograd.grad((y * weights).sum(), leaves)]

    worst = 0.0
    for case in cases:
        exact = run(case, torch.float64, ops.Ways())
        for a, b in zip(exact, run(case, torch.float32, ops.Ways(kernels=found)), strict=True):
            error = ((a - b).abs().max() / a.abs().max()).item()
            worst = error if not error <= worst else worst  # a NaN stays
    return worst
