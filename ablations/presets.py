"""The ranges at which every study can be asked its question, from seconds on one core to a paper on GPUs.

A preset is a range and nothing else: compute budgets, those at which rates are swept, seeds, and how text is cut into
tokens. What a study compares is the same at each.
"""

from __future__ import annotations

from pydantic import Field

from algoprogress.ablations.config import Config, Whole


class Preset(Config):
    """Budgets in FLOP."""

    name: str
    budgets: tuple[float, ...] = Field(description="of a baseline, and of the few arms of a study of few arms")
    tuned: tuple[float, ...] = Field(description="where the rates of a study of few arms are swept")
    swept: tuple[float, ...] = Field(description="where the rates of each arm of a study of many arms are swept")
    ablated: tuple[float, ...] = Field(
        description="of each arm of a study of many arms; above the smallest, so that a loss is measured"
    )
    seeds: Whole = Field(ge=1, description="main runs of each size")
    tokenizer: str = "bytes"
    validation_tokens: Whole = 32_768
    on_gpus: bool = Field(False, description="cost is told in hours of an accelerator, not measured on this machine")


DEFAULT = "laptop"

PRESETS: dict[str, Preset] = {
    preset.name: preset
    for preset in (
        Preset(
            name="smoke",
            budgets=(1e9, 2e9, 4e9),
            tuned=(1e9,),
            swept=(1e9,),
            ablated=(2e9,),
            seeds=1,
            validation_tokens=4096,
        ),
        Preset(
            name="demo",
            budgets=(3e9, 1e10, 3e10),
            tuned=(1e10,),
            swept=(1e10,),
            ablated=(1e10,),
            seeds=3,
        ),
        # no size of an arm is larger than those that were swept: rates are not extrapolated
        Preset(
            name=DEFAULT,
            budgets=(3e9, 1e10, 3e10, 1e11, 3e11),
            tuned=(1e10, 1e11, 3e11),
            swept=(1e10, 3e10),
            ablated=(1e10, 3e10, 1e11),
            seeds=3,
        ),
        Preset(
            name="gpu",
            budgets=(1e13, 3e13, 1e14, 3e14, 1e15, 3e15),
            tuned=(1e13, 1e14, 3e14),
            swept=(1e13, 1e14),
            ablated=(1e14, 3e14, 1e15),
            seeds=3,
            tokenizer="bpe-2048",
            validation_tokens=524_288,
            on_gpus=True,
        ),
        # up to 1e17 FLOP, as Gundlach et al. 2025
        Preset(
            name="paper",
            budgets=(1e14, 3e14, 1e15, 3e15, 1e16, 3e16, 1e17),
            tuned=(1e14, 1e15, 3e15),
            swept=(1e14, 1e15),
            ablated=(1e15, 3e15, 1e16),
            seeds=3,
            tokenizer="bpe-8192",
            validation_tokens=524_288,
            on_gpus=True,
        ),
    )
}


def preset_named(name: str) -> Preset:
    if name not in PRESETS:
        raise ValueError(f"unknown preset {name!r}; known: {', '.join(PRESETS)}")
    return PRESETS[name]


def study_name(study: str, preset: Preset) -> str:
    """The study's own name at the default preset, so that its tables are found by it."""
    return study if preset.name == DEFAULT else f"{study}-{preset.name}"
