"""What a study would cost on an accelerator: FLOP over its peak and the share of it that training reaches."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pandas as pd

from algoprogress.ablations.spec import RunSpec

# Peak FLOP/s of dense products with 16-bit inputs, from NVIDIA's data sheets (V100 SXM2, A100 SXM, H100 SXM).
PEAKS = {"v100": 125e12, "a100": 312e12, "h100": 989e12}
DEFAULT = "a100"


@dataclass(frozen=True)
class Cost:
    """Seconds of a run on one accelerator, all of its FLOP by the `standard` convention."""

    accelerator: str
    peak: float
    utilisation: float

    @classmethod
    def of(cls, accelerator: str, utilisation: float) -> Cost:
        if accelerator not in PEAKS:
            raise ValueError(f"unknown accelerator {accelerator!r}; known: {', '.join(PEAKS)}")
        if not 0 < utilisation <= 1:
            raise ValueError(f"utilisation is a share of the peak above 0 and at most 1, not {utilisation}")
        return cls(accelerator, PEAKS[accelerator], utilisation)

    def seconds(self, spec: RunSpec) -> float:
        return spec.compute / (self.peak * self.utilisation)

    def facts(self) -> dict[str, Any]:
        return {"accelerator": self.accelerator, "peak_flop_per_second": self.peak, "utilisation": self.utilisation}

    def __str__(self) -> str:
        return f"{self.accelerator} ({self.peak / 1e12:g} TFLOP/s at {self.utilisation:.0%}, as assumed)"


def by_budget(rows: pd.DataFrame) -> pd.DataFrame:
    """[compute_budget, stage, runs, pending, compute, hours, hours_so_far], the cheapest budget first."""
    keys = [c for c in ("compute_budget", "stage") if c in rows]
    unique = rows[~rows.run_id.duplicated() | rows.run_id.isna()]
    table = (
        unique.assign(pending=unique.state != "done", hours=unique.seconds / 3600)
        .groupby(keys, sort=True)
        .agg(runs=("arm", "size"), pending=("pending", "sum"), compute=("compute", "sum"), hours=("hours", "sum"))
        .reset_index()
    )
    return table.assign(hours_so_far=table.hours.cumsum())
