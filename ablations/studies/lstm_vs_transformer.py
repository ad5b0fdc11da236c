"""LSTM against Transformer, each at its tuned rate: the gain of the decade's largest step, and whether it grows."""

from __future__ import annotations

from algoprogress.ablations.ladder import deepening, main, modern, recurrent, retro, sweep
from algoprogress.ablations.presets import DEFAULT, preset_named, study_name
from algoprogress.ablations.study import Study, question, studies
from algoprogress.ablations.tuning import Tuning


@studies.register("lstm_vs_transformer")
def lstm_vs_transformer(preset: str = DEFAULT) -> Study:
    """How much compute does a Transformer of 2017 or of 2023 save over an LSTM, and does the gain grow with compute?

    The LSTM has one layer, two, or more with each doubling of its width: its depth is no reason for it to fall behind.
    """
    at = preset_named(preset)
    arms = {
        "lstm_1": recurrent(at, lambda width: 1),
        "lstm_2": recurrent(at, lambda width: 2),
        "lstm_deep": recurrent(at, deepening),
        "retro": retro(at),
        "modern": modern(at),
    }
    return Study(
        name=study_name("lstm_vs_transformer", at),
        question=question(lstm_vs_transformer),
        baseline="lstm_1",
        arms={arm: sweep(sized, at.tuned) for arm, sized in arms.items()},
        tuning=Tuning(),
        main={arm: main(sized, at.budgets, at.seeds) for arm, sized in arms.items()},
    )
