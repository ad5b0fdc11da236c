"""How many threads the numeric libraries of a process may use: they read it when they are imported, and never again."""

import os

VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


def of(n: int) -> dict[str, str]:
    """Environment of a process with n threads."""
    return dict.fromkeys(VARIABLES, str(n))


def one() -> None:
    """One thread in this process and in those that it starts, where its environment says nothing else.

    Runs are trained one to a core, and the matrices of fits are so small that a second thread only spins.
    """
    for name in VARIABLES:
        os.environ.setdefault(name, "1")
