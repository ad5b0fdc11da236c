"""Where are K runs faster together than one after the other? This table decides what `ensembles/choice.py` takes.

CPU time of K runs in one ensemble, beside K times that of one run alone in the same process. The target is for shapes
that are taken; a case that says "alone" shows what would be lost by taking it.
"""

from __future__ import annotations

from functools import partial
from typing import Any

STEPS = 16  # a stretch between two readings of the losses
TARGET = 1.1  # what a shape has to gain to be taken: less is not worth waiting for each other

Case = tuple[str, dict[str, Any], int, int]
CASES: list[Case] = [  # architecture, its fields, tokens a step, members
    ("transformer", {"width": 16}, 128, 8),
    ("transformer", {"width": 16}, 256, 4),
    ("transformer", {"width": 16}, 256, 8),
    ("transformer", {"width": 16}, 256, 16),
    ("transformer", {"width": 16}, 512, 8),
    ("transformer", {"width": 32}, 128, 4),
    ("transformer", {"width": 32}, 128, 8),
    ("transformer", {"width": 32}, 256, 8),
    ("transformer", {"width": 32}, 1024, 8),
    ("transformer", {"width": 64}, 512, 8),
    ("lstm", {"width": 32}, 512, 4),
    ("lstm", {"width": 32}, 512, 8),
    ("lstm", {"width": 32}, 512, 16),
    ("lstm", {"width": 32}, 1024, 8),
    ("lstm", {"width": 32, "n_layers": 2}, 1024, 8),
]


def rows() -> list[dict[str, Any]]:
    from algoprogress.ablations.spec import RunSpec
    from algoprogress.pipeline.bench import compare
    from algoprogress.pipeline.data import open_tokens, resolve
    from algoprogress.pipeline.ensembles.choice import Choice
    from algoprogress.pipeline.ensembles.train import train_together
    from algoprogress.pipeline.policy import choose
    from algoprogress.pipeline.trainer import train

    policy = choose("cpu")
    corpus = resolve("python")  # needs no package index
    tokens = open_tokens("python", corpus.sha256, "bytes")
    choice = Choice.where_it_pays("cpu")

    def together(specs: list[RunSpec]) -> None:
        list(train_together(specs, tokens, policy=policy))

    found = []
    for name, fields, batch_tokens, members in CASES:
        preset = {"preset": "modern"} if name == "transformer" else {}
        first = RunSpec.model_validate(
            {
                "architecture": {"name": name, **preset, **fields},
                "tokens": STEPS * batch_tokens,
                "batch_tokens": batch_tokens,
                "learning_rate": 0.01,
                "data": {"corpus": "python", "corpus_sha256": corpus.sha256},
                "evaluation": {"tokens": 128},
            }
        )
        specs = [first.model_copy(update={"seed": seed}) for seed in range(members)]
        least = choice.least(first)
        taken = least is not None and members >= least
        layers = getattr(first.architecture, "n_layers", 1)
        case = f"{name} {layers}x{fields['width']}, {batch_tokens:,} tokens a step, {members} runs"
        case += "" if taken else "; alone"
        peer = partial(train, first, tokens, policy=policy)
        found.append(compare(case, partial(together, specs), peer, TARGET if taken else 0.0, scale=members))
    return found
