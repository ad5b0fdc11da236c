"""The vectors of a Krylov space, in memory up to a bound and beyond it in a file: Lanczos keeps every one it has made.

Shapes: K starting vectors, n coordinates, m vectors of each.
"""

from __future__ import annotations

import os
import tempfile
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor

MEMORY = 1 << 30  # bytes of vectors that stay in memory


class Basis:
    """At most m orthonormal (K, n) vectors, to be projected out of others.

    Args:
        K, n: shape of a vector.
        m: how many there will be.
        device: of the vectors.
        memory: bytes that they may fill; those beyond it go to a temporary file, which is gone with the object.
    """

    def __init__(self, K: int, n: int, m: int, device: object = "cpu", memory: int = MEMORY) -> None:
        import torch

        self.shape = (K, n)
        self.bytes = 8 * K * n
        held = min(m, max(1, memory // self.bytes))
        self.held = torch.zeros(K, held, n, dtype=torch.float64, device=device)  # type: ignore[call-overload]
        self.count = 0
        self.file = tempfile.TemporaryFile() if held < m else None  # noqa: SIM115 - closed with the object

    def append(self, q_Kn: Tensor) -> None:
        """Keep one more vector."""
        if self.count < self.held.shape[1]:
            self.held[:, self.count] = q_Kn
        else:
            assert self.file is not None
            self.file.seek(0, os.SEEK_END)
            q_Kn.cpu().numpy().tofile(self.file)
        self.count += 1

    def without(self, w_Kn: Tensor) -> Tensor:
        """w less its projections on all vectors that are kept."""
        import torch

        known = self.held[:, : min(self.count, self.held.shape[1])]
        w = torch.baddbmm(w_Kn[:, None], torch.bmm(w_Kn[:, None], known.mT), known, alpha=-1)[:, 0]
        if self.file is not None and self.count > self.held.shape[1]:
            self.file.seek(0)
            for _ in range(self.count - self.held.shape[1]):
                q = torch.from_numpy(np.fromfile(self.file, count=w.numel()).reshape(self.shape)).to(w.device)
                w = w - (w * q).sum(1, keepdim=True) * q
        return w
