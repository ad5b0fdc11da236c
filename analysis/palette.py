"""Colour and marker of an arm, in the order of its study, the same in every figure."""

from collections.abc import Sequence

# Okabe and Ito 2008: told apart with every common form of colour blindness. Black is for text, yellow too pale.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00")
MARKERS = ("o", "s", "D", "^", "v", "P")
STYLES = ("-", "--", "-.", ":")


def colours(arms: Sequence[str]) -> dict[str, str]:
    """Arm -> colour; after six arms the colours come round again, with another marker and line style."""
    return {arm: COLOURS[k % len(COLOURS)] for k, arm in enumerate(arms)}


def markers(arms: Sequence[str]) -> dict[str, str]:
    """Arm -> marker, so that arms differ without colour too."""
    return {arm: MARKERS[(k + k // len(COLOURS)) % len(MARKERS)] for k, arm in enumerate(arms)}


def styles(arms: Sequence[str]) -> dict[str, str]:
    """Arm -> line style: solid until the colours come round again."""
    return {arm: STYLES[(k // len(COLOURS)) % len(STYLES)] for k, arm in enumerate(arms)}
