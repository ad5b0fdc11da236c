"""How a worker computes on its device: decided once on a machine by trying, kept, and written into every record.

The choices change the speed of a run and the last bits of its losses, never its identity. They are made by short
timings, which vary; so they are made once, kept in the cache folder under the machine's name, and every worker of the
machine reads the same ones. Within a machine equal specs therefore give equal records, in whatever order they train.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, fields, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from algoprogress.pipeline.corpora.cache import cache_root, exclusive, read_json, write_json
from algoprogress.pipeline.device import prepare

if TYPE_CHECKING:
    import torch

    from algoprogress.ablations.ops import Attention

Dtype = Literal["float32", "bfloat16", "float64"]

BFLOAT16_UNITS = ("avx512_bf16", "amx_bf16", "bf16")  # as torch names what a processor can do; the last is Arm's
FORMAT = 1  # of the file; a higher number makes older ones be measured again
SMALLEST, LARGEST = 128, 1024  # of the square products by which the peak is measured
SECONDS = 0.1  # of each timing
BETTER = 1.05  # a way other than torch's own has to be this much faster: timings here scatter by a few per cent
PRECISE = 4.0  # largest error of a product, in units of the error of the library that torch uses by itself


@dataclass(frozen=True)
class Policy:
    """What is used for one device and dtype.

    Attributes:
        matmul: library of the float32 products of torch: mkl, onednn or cublas; None: whatever torch takes.
        attention: torch's own: `fused` kernel or `products`; the compiled kernels, where they apply, come first.
        kernels: name of the compiled kernels; None where plain torch does their work.
        linear: the compiled kernels do the linear layers too.
        peak: FLOP/s of a square product in this dtype by the fastest of these, None where it was not measured.
        torch_compile: the model goes through torch.compile, which makes its own kernels.
    """

    matmul: str | None = None
    attention: Attention = "fused"
    kernels: str | None = None
    linear: bool = False
    peak: float | None = None
    torch_compile: bool = False

    def compiling(self) -> Policy:
        """The same with torch.compile, which makes kernels of its own."""
        return replace(self, torch_compile=True, kernels=None, linear=False)

    def stacked(self) -> Policy:
        """The same for several models at once, which torch alone can batch."""
        return replace(self, torch_compile=False, kernels=None, linear=False)

    @contextlib.contextmanager
    def active(self) -> Iterator[None]:
        """Compute like this inside the block."""
        from algoprogress.ablations import ops
        from algoprogress.pipeline.kernels import kernels

        found = kernels()[0] if self.kernels else None
        without = frozenset() if self.linear else frozenset({"linear", "lstm"})
        with library(self.matmul), ops.using(ops.Ways(self.attention, found, without)):
            yield

    def facts(self, flop_per_second: float) -> dict[str, Any]:
        """The columns of a record that say how it was computed."""
        return {
            "matmul": self.matmul,
            "attention": "inductor" if self.torch_compile else "compiled" if self.kernels else self.attention,
            "kernels": self.kernels,
            "torch_compile": self.torch_compile,
            "gemm_flop_per_second": self.peak,
            "gemm_fraction": flop_per_second / self.peak if self.peak else None,
        }


def choose(device: str, dtype: str = "float32", n_threads: int = 1) -> Policy:
    """The policy of this machine for a device and dtype, measured in about a second when it is asked for first."""
    return _choice(cache_root(), device, dtype, n_threads)


@cache
def _choice(folder: Path, device: str, dtype: str, n_threads: int) -> Policy:
    """Of one cache folder, which says what was measured: a process that is given another folder reads that one."""
    import torch

    prepare(device)
    where = torch.device(device)
    key = hashlib.sha256(json.dumps([FORMAT, _machine(where), dtype, n_threads]).encode()).hexdigest()[:16]
    path = folder / "policy" / f"{key}.json"
    known = _read(path)
    if known is None:
        with exclusive(f"policy-{key}"):
            known = _read(path)
            if known is None:
                known = measure(where, dtype, n_threads)
                write_json(path, {"machine": _machine(where), "dtype": dtype, "n_threads": n_threads, **asdict(known)})
    return known


def best_dtype(device: str = "cpu") -> Dtype:
    """bfloat16 where the hardware multiplies in it, else float32: what `dtype: auto` stands for here.

    Raises:
        ValueError: a GPU is meant and this machine has none.
    """
    import torch

    if device.startswith("cuda"):
        if not torch.cuda.is_available():
            raise ValueError(
                "dtype auto is settled by the GPU of the machine that plans, and this one has none: name float32 or "
                "bfloat16 in the study, or plan where the GPU is"
            )
        return "bfloat16" if torch.cuda.is_bf16_supported() else "float32"
    able = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    return "bfloat16" if any(able.get(name) for name in BFLOAT16_UNITS) else "float32"


@cache
def lstm_in_bfloat16() -> bool:
    """Whether torch has an LSTM in bfloat16 for this processor: without the instructions for it there is none."""
    import torch

    layer, x = torch.nn.LSTM(16, 16), torch.zeros(2, 1, 16)
    try:
        with torch.autocast("cpu", torch.bfloat16):
            layer(x)[0].sum().backward()
    except RuntimeError:
        return False
    return True


@contextlib.contextmanager
def library(name: str | None) -> Iterator[None]:
    """The library of float32 products on a CPU inside the block; torch's own unless it is onednn.

    torch has no switch for it, but hands products to oneDNN when less precision is allowed. oneDNN then takes bfloat16
    where the processor has matrix units, and plain float32 elsewhere: `fastest_library` looks at the result.
    """
    import torch

    products = torch.backends.mkldnn.matmul  # type: ignore[attr-defined]
    before = products.fp32_precision
    products.fp32_precision = "bf16" if name == "onednn" else before
    try:
        yield
    finally:
        products.fp32_precision = before


def measure(where: torch.device, dtype: str, n_threads: int) -> Policy:
    """Try what there is to try on this device, by result and by time."""
    import torch

    from algoprogress.pipeline.kernels import kernels

    if where.type != "cpu":
        # TF32 has 10 bits of mantissa: a float32 run stays float32, and bfloat16 is asked for by name
        return Policy("cublas", peak=peak(where, dtype))
    threads = torch.get_num_threads()
    torch.set_num_threads(n_threads)
    try:
        matmul = fastest_library()
        with library(matmul):
            attention = fastest_attention(dtype)
            name = kernels()[1] if dtype == "float32" and n_threads == 1 and kernels()[0] else None
            linear = name is not None and kernels_are_faster_at_linear_layers()
            return Policy(matmul, attention, name, linear, peak(where, dtype))
    finally:
        torch.set_num_threads(threads)


def fastest_library() -> str:
    """onednn where it is as precise as the library that torch uses by itself, and faster; else that one."""
    import torch

    own = "mkl" if torch.backends.mkl.is_available() else "blas"
    if not torch.backends.mkldnn.is_available():
        return own
    a, b = torch.randn(2, 512, 512, generator=torch.Generator().manual_seed(0))
    exact = a.double() @ b.double()
    error = {}
    for name in (own, "onednn"):
        with library(name):
            error[name] = (a @ b - exact).abs().mean().item()
    if not error["onednn"] <= PRECISE * error[own]:
        return own

    def product(name: str) -> Callable[[], Any]:
        def work() -> Any:
            with library(name):
                return a @ b

        return work

    return fastest({own: product(own), "onednn": product("onednn")})


def fastest_attention(dtype: str) -> Attention:
    """Torch's fused kernel or batched products, forward and backward, at the shape of a small model."""
    import torch

    from algoprogress.ablations import ops

    qkv = torch.randn(8, 128, 3 * 64, requires_grad=True)

    def once(way: Attention) -> Callable[[], Any]:
        def work() -> Any:
            with ops.using(ops.Ways(way)), torch.autocast("cpu", torch.bfloat16, enabled=dtype == "bfloat16"):
                x = qkv.bfloat16() if dtype == "bfloat16" else qkv
                return torch.autograd.grad(ops.attention(x, 4, None).float().sum(), qkv)

        return work

    return fastest({"fused": once("fused"), "products": once("products")})  # type: ignore[return-value]


def kernels_are_faster_at_linear_layers() -> bool:
    """The compiled linear layer beside torch's, forward and backward, at the shape of a small model."""
    import torch

    from algoprogress.ablations import ops
    from algoprogress.pipeline.kernels import kernels

    layer, x = torch.nn.Linear(64, 256, bias=False), torch.randn(4096, 64, requires_grad=True)

    def once(ways: ops.Ways) -> Callable[[], Any]:
        def work() -> Any:
            with ops.using(ways):
                return torch.autograd.grad(ops.linear(layer, x).sum(), [x, layer.weight])

        return work

    return fastest({"torch": once(ops.Ways()), "compiled": once(ops.Ways(kernels=kernels()[0]))}) == "compiled"


def fastest(ways: dict[str, Callable[[], Any]]) -> str:
    """The way of least CPU time, taken in turn; the first, unless another is BETTER by a margin."""
    least = dict.fromkeys(ways, float("inf"))
    for work in ways.values():
        work()
    end = time.perf_counter() + SECONDS * len(ways)
    while time.perf_counter() < end:
        for name, work in ways.items():
            begun = time.process_time()
            work()
            least[name] = min(least[name], time.process_time() - begun)
    first, best = next(iter(ways)), min(least, key=least.__getitem__)
    return best if least[first] > BETTER * least[best] else first


def peak(where: torch.device, dtype: str) -> float:
    """FLOP/s of a square product in this dtype: the best of a few, since whatever else runs makes the others slower."""
    import torch

    n = 8 * LARGEST if where.type != "cpu" else SMALLEST
    while True:
        seconds = _seconds_of_a_product(n, where, getattr(torch, dtype))
        if n >= LARGEST or seconds > 8 * SECONDS / 3:  # where a dtype is emulated, a small product says enough
            return 2.0 * n**3 / seconds
        n *= 2


def _seconds_of_a_product(n: int, where: torch.device, dtype: torch.dtype) -> float:
    """Of CPU time on one thread, which other processes do not lengthen; else of wall time."""
    import torch

    on_cpu = where.type == "cpu"
    clock = time.process_time if on_cpu and torch.get_num_threads() == 1 else time.perf_counter
    a = torch.ones(n, n, dtype=dtype, device=where)
    out = torch.mm(a, a)
    best, end = float("inf"), time.perf_counter() + SECONDS
    while time.perf_counter() < end:
        if not on_cpu:
            torch.cuda.synchronize(where)
        begun = clock()
        torch.mm(a, a, out=out)
        if not on_cpu:
            torch.cuda.synchronize(where)
        best = min(best, clock() - begun)
    return best


def _machine(where: torch.device) -> str:
    import torch

    from algoprogress.pipeline.kernels import kernels, processor

    if where.type != "cpu":
        return f"{torch.cuda.get_device_name(where)} torch {torch.__version__}"
    digest = hashlib.sha256(processor().encode()).hexdigest()[:12]
    return f"{digest} torch {torch.__version__} kernels {kernels()[1] if kernels()[0] else None}"


def _read(path: Path) -> Policy | None:
    found = read_json(path)
    names = {field.name for field in fields(Policy)}
    return Policy(**{k: v for k, v in found.items() if k in names}) if found and names <= found.keys() else None
