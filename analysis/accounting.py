"""What do many gains add up to? An account of algorithmic progress along a frontier of compute over the years.

An account is data: entries, each an innovation with the year it was adopted and its gain (`gain_curves`), a frontier
C(year), one reference convention, and a named rule for how gains combine. Nothing is multiplied as point estimates
where something is uncertain: totals, shares and growth come from joint draws.
"""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
import pandas as pd

from algoprogress.analysis.account_checks import check_account
from algoprogress.analysis.compute_frontier import FRONTIERS, Frontier
from algoprogress.analysis.gain_curves import Gain, Multiplier, Reference, decades_beyond
from algoprogress.analysis.warnings import AnalysisWarning, Extrapolation

Interaction = Literal["none", "power", "fitted"]
COLUMNS = [
    *("innovation", "year", "group", "compute", "gain", "gain_low", "gain_high"),
    *("log_share", "log_share_low", "log_share_high"),
    *("reference", "decades_beyond", "protocol", "source", "note"),
]


class NoInterval(AnalysisWarning):
    """A gain was taken as exact, because no interval is known for it."""


class Unfitted(AnalysisWarning):
    """An entry interacts, and the fitted interaction model does not know it."""


class Crossing(AnalysisWarning):
    """The two laws of an entry cross within the frontier: on one side of it the new algorithm is worse."""


@dataclass(frozen=True)
class Entry:
    """One innovation in an account.

    Args:
        key: short name, unique in the account.
        innovation: what replaced what.
        year: of adoption.
        gain: its compute-equivalent gain.
        group: entries of one group are also summed, as "scale-dependent".
        less: keys of entries that this one contains: their gain is taken out of it.
        interacts: whether the account's interaction rule applies to it.
        counted: False for an entry that only informs the rule.
        reference: of its own, where the account says "as published".
        source, protocol: where it comes from and how it was measured.
    """

    key: str
    innovation: str
    year: float
    gain: Gain
    group: str = ""
    less: tuple[str, ...] = ()
    interacts: bool = False
    counted: bool = True
    reference: Reference = "new"
    source: str = ""
    protocol: str = ""


@dataclass(frozen=True)
class Account:
    """Entries along a frontier.

    Args:
        reference: "new", "old", or "as published": each entry's own, which mixes conventions.
        interaction: "none" multiplies; "power" raises each interacting multiplier to ln(measured) / ln(product), so
            that their product is what was measured of them together (Gundlach et al. 2025); "fitted" has the gains of
            a fitted interaction model, each given those before it (`account_runs.with_fitted_interactions`).
        measured_together: the CEG measured for all interacting entries at once, where the rule is "power".
        since: year from which growth is counted.
        bases: name -> keys of the entries that count when progress is measured against that algorithm.
        description: one sentence, printed with the totals.
    """

    name: str
    entries: tuple[Entry, ...]
    frontier: Frontier = FRONTIERS["gundlach2025"]
    reference: Literal["new", "old", "as published"] = "new"
    interaction: Interaction = "none"
    measured_together: Multiplier | None = None
    since: float = 2012.0
    bases: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    description: str = ""

    def __post_init__(self) -> None:
        check_account(self)

    # ---- evaluation ---------------------------------------------------------------------------------------------

    def table(
        self, year: float, compute: float | None = None, n: int = 4000, level: float = 0.95, seed: int = 0
    ) -> pd.DataFrame:
        """One row per entry adopted by a year: its gain, its share of the logarithm, both with intervals.

        Args:
            compute: FLOP, in place of the frontier's.
            n: joint draws; 0 for no intervals.

        Returns:
            DataFrame of `COLUMNS`; gain_low and gain_high are nan where nothing is uncertain.
        """
        log_c = self._log_compute(year, compute)
        entries = self.adopted(year)
        point = self.log_gains(entries, log_c)
        total = point.sum()
        drawn = self.draws(entries, log_c, n, seed) if n else np.empty((0, len(entries)))
        share = np.divide(drawn, drawn.sum(1, keepdims=True)) if n else drawn
        rows = []
        for k, e in enumerate(entries):
            low, high = _quantiles(drawn[:, k], level) if n and np.ptp(drawn[:, k]) > 0 else (np.nan, np.nan)
            s_low, s_high = _quantiles(share[:, k], level) if n and np.ptp(share[:, k]) > 0 else (np.nan, np.nan)
            reference = self._reference(e)
            rows.append(
                dict(
                    zip(
                        COLUMNS,
                        (
                            *(e.innovation, e.year, e.group, np.exp(log_c)),
                            *np.exp([point[k], low, high]),
                            *(point[k] / total if total else np.nan, s_low, s_high),
                            *(reference, self.decades_beyond(e, log_c), e.protocol, e.source, self._note(e, log_c)),
                        ),
                        strict=True,
                    )
                )
            )
        table = pd.DataFrame(rows, columns=COLUMNS, index=pd.Index([e.key for e in entries], name="key"))
        self._warn(entries, log_c)
        return table

    def total(
        self, year: float, compute: float | None = None, n: int = 4000, level: float = 0.95, seed: int = 0
    ) -> dict[str, Any]:
        """Total gain, groups and their shares of the logarithm, growth per year and doubling time, at a year."""
        log_c = self._log_compute(year, compute)
        entries = self.adopted(year)
        point = self.log_gains(entries, log_c)
        drawn = self.draws(entries, log_c, n, seed) if n else np.empty((0, len(entries)))
        uncertain = bool(n) and bool(np.ptp(drawn, axis=0).any())
        years = year - self.since
        if years <= 0:
            raise ValueError(f"Growth is counted since {self.since:g}: {year:g} is not after it.")

        def both(of: np.ndarray, f: Any = np.exp) -> dict[str, float]:
            value = float(f(point[of].sum()))
            low, high = _quantiles(f(drawn[:, of].sum(1)), level) if uncertain else (np.nan, np.nan)
            return {"value": value, "low": low, "high": high}

        everything = np.arange(len(entries))
        total = both(everything)
        groups = {g: np.flatnonzero([e.group == g for e in entries]) for g in dict.fromkeys(e.group for e in entries)}
        shares = {}
        for g, of in groups.items():
            value = float(point[of].sum() / point.sum()) if point.sum() else np.nan
            drawn_share = drawn[:, of].sum(1) / drawn.sum(1) if uncertain else drawn.sum(1)
            low, high = _quantiles(drawn_share, level) if uncertain else (np.nan, np.nan)
            shares[g] = {"value": value, "low": low, "high": high}
        return {
            "protocol": self.name,
            "year": year,
            "compute": float(np.exp(log_c)),
            "reference": self.reference,
            "interaction": self.interaction,
            "total": total,
            "groups": {g: both(of) for g, of in groups.items()},
            "log_share": shares,
            "growth_per_year": both(everything, lambda x: np.exp(x / years)),
            "doubling_months": _doubling(both(everything, lambda x: x / years)),
            "level": level,
            "n_uncertain": sum(e.gain.uncertain for e in entries),
            "n_entries": len(entries),
            "decades_beyond": self.furthest(entries, log_c)[1],
        }

    def fixed_compute_growth(
        self, compute: Sequence[float], first: float, last: float, n: int = 4000, level: float = 0.95, seed: int = 0
    ) -> pd.DataFrame:
        """Growth per year between two years at a compute that stays (0.46 is 46 %), both with intervals.

        At a fixed compute both ends of a gain are the same algorithm ladder, so each entry is read at the new
        algorithm's compute.

        Returns:
            [compute, gain, gain_low, gain_high, growth_per_year, growth_low, growth_high, decades_beyond].
        """
        if not first < last:
            raise ValueError(f"The first year comes before the last, not {first:g} and {last:g}.")
        entries = [e for e in self.adopted(last) if e.year > first]
        rows = []
        for c in compute:
            log_c = float(np.log(c))
            gains = np.array(self._summed(entries, log_c, n, level, seed, "new"))
            growth = np.expm1(np.log(gains) / (last - first))
            rows.append((c, *gains, *growth, self.furthest(entries, log_c)[1]))
        columns = ["compute", "gain", "gain_low", "gain_high", "growth_per_year", "growth_low", "growth_high"]
        return pd.DataFrame(rows, columns=[*columns, "decades_beyond"])

    def against(
        self,
        year: float,
        compute: float | None = None,
        bases: Sequence[str] | None = None,
        n: int = 4000,
        level: float = 0.95,
        seed: int = 0,
    ) -> pd.DataFrame:
        """The gain over each base algorithm at a year's frontier or at a compute, of all that its base lists.

        Returns:
            [base, year, compute, gain, gain_low, gain_high, decades_beyond].
        """
        log_c = self._log_compute(year, compute)
        rows = []
        for base in self.bases if bases is None else bases:
            if base not in self.bases:
                raise ValueError(f"There is no base {base!r}; there are {', '.join(self.bases) or 'none'}.")
            entries = [replace(e, less=()) for e in self.entries if e.key in self.bases[base]]
            gains, beyond = self._summed(entries, log_c, n, level, seed), self.furthest(entries, log_c)[1]
            rows.append((base, year, float(np.exp(log_c)), *gains, beyond))
        columns = ["base", "year", "compute", "gain", "gain_low", "gain_high", "decades_beyond"]
        return pd.DataFrame(rows, columns=columns)

    def _summed(
        self,
        entries: Sequence[Entry],
        log_c: float,
        n: int,
        level: float,
        seed: int,
        reference: Reference | None = None,
    ) -> tuple[float, float, float]:
        """The product of the gains of some entries with its interval, nan where nothing is uncertain."""
        gain = float(np.exp(self.log_gains(entries, log_c, reference).sum()))
        drawn = self.draws(entries, log_c, n, seed, reference) if n and entries else np.zeros((1, 1))
        if not np.ptp(drawn, axis=0).any():
            return gain, np.nan, np.nan
        return gain, *_quantiles(np.exp(drawn.sum(1)), level)

    # ---- parts --------------------------------------------------------------------------------------------------

    def adopted(self, year: float) -> list[Entry]:
        """The entries that count by a year. Raises ValueError where there is none yet."""
        found = [e for e in self.entries if e.counted and e.year <= year]
        if not found:
            raise ValueError(f"No entry of {self.name} was adopted by {year:g}; the first is of "
                             f"{min(e.year for e in self.entries if e.counted):g}.")  # fmt: skip
        return found

    def parts(self, entry: Entry) -> list[Entry]:
        """An entry and all that is taken out of it."""
        known = {e.key: e for e in self.entries}
        return [entry, *(p for k in entry.less for p in self.parts(known[k]))]

    def measured(self, entry: Entry) -> tuple[float, float] | None:
        """FLOP within which all parts of an entry were measured, the low end above the high one where there is none."""
        ranges = [p.gain.measured for p in self.parts(entry) if p.gain.measured is not None]
        return (max(low for low, _ in ranges), min(high for _, high in ranges)) if ranges else None

    def decades_beyond(self, entry: Entry, log_c: float) -> float:
        """Decades of compute beyond what was measured of the entry, or of what is taken out of it."""
        return max(decades_beyond(p.gain, log_c) for p in self.parts(entry))

    def furthest(self, entries: Sequence[Entry], log_c: float) -> tuple[str, float]:
        """The key of the entry that is extrapolated furthest, and by how many decades of compute."""
        far = {e.key: self.decades_beyond(e, log_c) for e in entries}
        return max(far.items(), key=lambda one: one[1], default=("", 0.0))

    def _log_compute(self, year: float, compute: float | None) -> float:
        if compute is None:
            return self.frontier.log_compute(year)
        if not 0 < compute < np.inf:
            raise ValueError(f"The compute that gains are read at is above 0 FLOP, not {compute:g}.")
        return float(np.log(compute))

    def _reference(self, entry: Entry) -> Reference:
        return entry.reference if self.reference == "as published" else self.reference

    def log_gains(self, entries: Sequence[Entry], log_c: float, reference: Reference | None = None) -> np.ndarray:
        """ln gain (entries,) at ln compute in FLOP, what one contains of another taken out, after the interaction rule.

        Raises:
            ValueError: an entry has no gain there.
        """
        at, known = np.array([log_c]), {e.key: e for e in self.entries}

        def raw(e: Entry) -> float:
            own = float(e.gain.log_gain(at, reference or self._reference(e))[0])
            return own - sum(raw(known[k]) for k in e.less)

        power = self._power(np.array([[e.gain.log_gain(at, "new")[0] for e in self.entries if e.interacts]]))[0]
        found = np.array([raw(e) * (power if e.interacts else 1.0) for e in entries])
        if not np.isfinite(found).all():
            bad = [e.key for e, g in zip(entries, found, strict=True) if not np.isfinite(g)]
            raise ValueError(
                f"{', '.join(bad)} has no gain at {np.exp(log_c):.3g} FLOP: it was not measured there, or one law "
                "never reaches the other's loss; choose a compute within its range, or a law in place of a curve."
            )
        return found

    def draws(
        self, entries: Sequence[Entry], log_c: float, n: int, seed: int, reference: Reference | None = None
    ) -> np.ndarray:
        """ln gain (n, entries), all entries drawn jointly: what one contains of another is the same draw."""
        rng, at = np.random.default_rng(seed), np.array([log_c])
        own = {e.key: e.gain.draws(at, reference or self._reference(e), n, rng)[:, 0] for e in self.entries}
        interacting = [own[e.key] for e in self.entries if e.interacts]
        together = None
        if self.measured_together is not None:
            together = self.measured_together.draws(at, "new", n, rng)[:, 0]
        power = self._power(np.stack(interacting, 1) if interacting else np.zeros((n, 0)), together)
        known = {e.key: e for e in self.entries}

        def raw(e: Entry) -> np.ndarray:
            return own[e.key] - sum((raw(known[k]) for k in e.less), np.zeros(n))

        return np.stack([raw(e) * (power if e.interacts else 1.0) for e in entries], 1)

    def _power(self, log_gain_Bk: np.ndarray, together_B: np.ndarray | None = None) -> np.ndarray:
        """(B,): the exponent of the rule "power", 1 for others."""
        if self.interaction != "power" or self.measured_together is None:
            return np.ones(len(log_gain_Bk))
        measured = np.log(self.measured_together.value) if together_B is None else together_B
        product = log_gain_Bk.sum(1)
        return np.where(np.abs(product) > 1e-12, measured / np.where(product == 0, 1, product), 1.0)

    def _note(self, entry: Entry, log_c: float) -> str:
        said = []
        if not entry.gain.uncertain:
            said.append("taken as exact: no interval is known")
        if (beyond := self.decades_beyond(entry, log_c)) > 0.05:
            said.append(f"extrapolated by {beyond:.1f} decades of compute")
        if entry.gain.measured is None:
            said.append("taken as the same at every compute" + (f" ({entry.protocol})" if entry.protocol else ""))
        if entry.interacts and self.interaction == "power":
            said.append("scaled by the interaction rule")
        if entry.interacts and self.interaction == "fitted":
            said.append("by the fitted interaction model, given those before it")
        if entry.less:
            said.append(f"without {', '.join(entry.less)}")
        return "; ".join(said)

    def _warn(self, entries: Sequence[Entry], log_c: float) -> None:
        exact = [e.key for e in entries if not e.gain.uncertain]
        if exact:
            warnings.warn(
                f"{self.name}: {len(exact)} of {len(entries)} gains have no interval and were taken as exact "
                f"({', '.join(exact)}): the intervals of totals are too short for it.",
                NoInterval,
                stacklevel=3,
            )
        far = {e.key: d for e in entries if (d := self.decades_beyond(e, log_c)) > 0.05}
        if far:
            worst = max(far, key=far.__getitem__)
            warnings.warn(
                f"{self.name}: {len(far)} gains are extrapolated, {worst} by {far[worst]:.1f} decades of compute "
                "beyond what was measured.",
                Extrapolation,
                stacklevel=3,
            )
        years = np.linspace(self.frontier.first, self.frontier.last, 61)
        along = np.array([self.frontier.log_compute(y) for y in years])
        for e in entries:
            if isinstance(e.gain, Multiplier) or (e.interacts and self.interaction == "fitted"):
                continue  # the same at every compute
            sign = np.sign(e.gain.log_gain(along, self._reference(e)))
            sign = sign[np.isfinite(sign) & (sign != 0)]
            if len(sign) and (sign != sign[0]).any():
                warnings.warn(
                    f"{self.name}: the laws of {e.key} cross within the frontier: its gain is below 1 somewhere.",
                    Crossing,
                    stacklevel=3,
                )


def _quantiles(values: np.ndarray, level: float) -> tuple[float, float]:
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def _doubling(rate: dict[str, float]) -> dict[str, float]:
    """Months in which the gain doubles, from ln gain per year; fast growth is a short time: the ends change places."""
    months = {k: float(12 * np.log(2) / v) if v > 0 else float("inf") for k, v in rate.items() if not np.isnan(v)}
    return {"value": months["value"], "low": months.get("high", np.nan), "high": months.get("low", np.nan)}
