"""What do arms have in common?  The linear map from the free parameters of a joint fit to those of each arm."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

Share = Mapping[str, str | Sequence[str]] | Literal["rescaled"]
NAMED = 4  # arms: of more that have a parameter in common, the number is told
SHIFT = 30.0  # a compute multiplier may change a term of the loss by exp(±30): more is no multiplier


@dataclass(frozen=True)
class Sharing:
    """w_a = M_a theta + m_a for each arm a: its working parameters w (k,) from the free ones theta (P,).

    Attributes:
        map_akP, offset_ak: M and m.
        column_ak: the column of theta that is a parameter of an arm, -1 where it is fixed.
        shift_a: the column by which an arm's terms are shifted, -1 for the first arm and where arms are not rescaled.
        labels: of the columns, such as "E" or "alpha of lstm".
    """

    arms: list[str]
    parameters: tuple[str, ...]
    map_akP: np.ndarray
    offset_ak: np.ndarray
    column_ak: np.ndarray
    shift_a: np.ndarray
    labels: list[str]

    @classmethod
    def of(
        cls,
        arms: Sequence[str],
        parameters: tuple[str, ...],
        shareable: Sequence[str],
        rescaled: Sequence[str],
        tied: Mapping[str, str],
        fixed: Mapping[str, float],
        share: Share | None,
        law: str,
    ) -> "Sharing":
        """Number the free columns: one per arm and parameter, the same where a parameter is shared or tied.

        Args:
            shareable: parameters that arms may share.
            rescaled: those whose working values a compute multiplier shifts.
            tied: parameter -> the one that it always equals.
            fixed: working values of parameters that are not free.
            share: {"E": "all"}, {"alpha": [arms]}, or "rescaled": all shared, up to one compute multiplier per arm.

        Raises:
            ValueError: `share` names what can not be shared or an arm that is not there.
        """
        A, k = len(arms), len(parameters)
        columns = np.arange(A * k).reshape(A, k)
        if isinstance(share, str):
            if share != "rescaled":
                raise ValueError(f"share is 'rescaled' or parameters with arms, such as {{'E': 'all'}}; not {share!r}.")
            columns[:] = columns[0]
        else:
            for parameter, chosen in (share or {}).items():
                rows = _rows(parameter, chosen, arms, shareable, law)
                j = parameters.index(parameter)
                columns[rows, j] = columns[rows[0], j]
        for parameter, other in tied.items():
            columns[:, parameters.index(parameter)] = columns[:, parameters.index(other)]
        offset = np.zeros((A, k))
        for parameter, value in fixed.items():
            for j in {parameters.index(p) for p in (parameter, *(t for t, o in tied.items() if o == parameter))}:
                columns[:, j], offset[:, j] = -1, value
        known, flat = np.unique(columns, return_inverse=True)
        column = flat.reshape(A, k) - int(known[0] == -1)
        n_own = int(column.max()) + 1
        shift = np.full(A, -1)
        if isinstance(share, str):
            shift[1:] = n_own + np.arange(A - 1)
        P = n_own + int((shift >= 0).sum())
        M = np.zeros((A, k, P))
        of_arm, ks = np.nonzero(column >= 0)
        M[of_arm, ks, column[of_arm, ks]] = 1.0
        for a, s in enumerate(shift):
            if s >= 0:
                M[a, [parameters.index(p) for p in rescaled], s] = 1.0
        labels = [_label(column, shift, c, arms, parameters) for c in range(P)]
        return cls(list(arms), parameters, M, offset, column, shift, labels)

    @property
    def n_free(self) -> int:
        return self.map_akP.shape[2]

    @property
    def is_rescaled(self) -> bool:
        return bool((self.shift_a >= 0).any())

    def working(self, theta: np.ndarray, a: int) -> np.ndarray:
        """Working parameters (..., k) of arm number a."""
        return theta @ self.map_akP[a].T + self.offset_ak[a]

    def gather(self, w_Sak: np.ndarray) -> np.ndarray:
        """Free parameters (S, P) nearest to working ones (S, A, k): means over the arms that share a column."""
        theta = np.zeros((len(w_Sak), self.n_free))
        for c in range(self.n_free):
            own = self.column_ak == c
            if own.any():
                theta[:, c] = w_Sak[:, own].mean(1)
        for a, s in enumerate(self.shift_a):
            if s >= 0:
                moved = self.map_akP[a][:, s] > 0
                theta[:, s] = (
                    w_Sak[:, a, moved] - theta @ self.map_akP[0].T[:, moved] - self.offset_ak[0, moved]
                ).mean(1)
        return theta

    def bounds(self, lower_ak: np.ndarray, upper_ak: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Bounds (..., P) of the columns from those of the arms (..., A, k): the narrowest where one is shared.

        A multiplier takes an arm's terms out of the bounds of the first arm: its own do not bind.
        """
        moved = np.stack(
            [
                self.map_akP[a][:, s] > 0 if s >= 0 else np.zeros(len(self.parameters), bool)
                for a, s in enumerate(self.shift_a)
            ]
        )
        lower = np.full((*lower_ak.shape[:-2], self.n_free), -SHIFT)
        upper = np.full((*upper_ak.shape[:-2], self.n_free), SHIFT)
        for c in range(self.n_free):
            own = (self.column_ak == c) & ~moved
            if own.any():
                lower[..., c], upper[..., c] = lower_ak[..., own].max(-1), upper_ak[..., own].min(-1)
        return lower, np.maximum(upper, lower)

    def is_shared(self, a: int, j: int) -> bool:
        """Whether another arm has the same value of the parameter."""
        c = self.column_ak[a, j]
        moved = self.shift_a[a] >= 0 and self.map_akP[a, j, self.shift_a[a]] > 0
        return bool(c >= 0 and (self.column_ak == c).any(1).sum() > 1 and not moved)


def _rows(parameter: str, chosen: str | Sequence[str], arms: Sequence[str], can: Sequence[str], law: str) -> list[int]:
    if parameter not in can:
        raise ValueError(f"{parameter!r} can not be shared; {law} can share {', '.join(can)}.")
    wanted = list(arms) if isinstance(chosen, str) and chosen == "all" else chosen
    if isinstance(wanted, str) or not wanted or any(a not in arms for a in wanted):
        raise ValueError(
            f"share[{parameter!r}] is 'all' or a list of arms among {', '.join(map(str, arms))}, not {chosen!r}."
        )
    return [list(arms).index(a) for a in wanted]


def _label(column: np.ndarray, shift: np.ndarray, c: int, arms: Sequence[str], parameters: tuple[str, ...]) -> str:
    if c in shift:
        return f"kappa of {arms[int(np.flatnonzero(shift == c)[0])]}"
    rows, ks = np.nonzero(column == c)
    those = [str(arms[a]) for a in np.unique(rows)]
    whose = f"all {len(arms)} arms" if len(those) == len(arms) > NAMED else ", ".join(those)
    return parameters[ks[0]] + ("" if len(arms) == 1 else f" of {whose}")
