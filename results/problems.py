"""What is wrong with a stored file, said the same way in a warning, in df.attrs["corrupt"] and in `verify`."""

import warnings
from typing import Any

REPLACE_IT = "set it aside with `algoprogress verify --set-aside`, then submit its study again"


class CorruptRun(UserWarning):
    """A damaged file of the store was left out. df.attrs["corrupt"] lists it; the other runs are not affected."""


class UnknownRun(KeyError):
    """A run that the store does not have."""

    def __str__(self) -> str:
        return str(self.args[0])  # a KeyError would show the sentence in quotes


class Unreadable(Exception):
    """A stored file that can not be believed: what is wrong with it, and what to do."""

    def __init__(self, problem: str, remedy: str = REPLACE_IT):
        super().__init__(problem)
        self.problem = problem
        self.remedy = remedy


Problem = dict[str, Any]  # run_id, file, problem, remedy


def problem(run_id: str | None, file: str, what: str, remedy: str) -> Problem:
    """One row of what `verify` returns."""
    return {"run_id": run_id, "file": file, "problem": what, "remedy": remedy}


def first_line(error: Exception) -> str:
    """What an error says, without the lines that a C++ library appends."""
    return (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")


def warn(problems: list[Problem]) -> list[Problem]:
    """Warns of each problem, and returns them."""
    for found in problems:
        text = f"{found['file']} was left out: {found['problem']}; {found['remedy']}."
        warnings.warn(text, CorruptRun, stacklevel=3)  # the line that called the Store's method
    return problems
