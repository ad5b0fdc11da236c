"""Adam and SGD on one model of each kind, at tuned rates, and how differently the blocks of each model are curved."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, NamedTuple

from algoprogress.ablations.architectures import ArchitectureConfig
from algoprogress.ablations.architectures.bert import BERT
from algoprogress.ablations.architectures.mlp import MLP
from algoprogress.ablations.architectures.mlp_mixer import MLPMixer
from algoprogress.ablations.architectures.resnet import ResNet
from algoprogress.ablations.architectures.transformer import Transformer
from algoprogress.ablations.architectures.vgg import VGG
from algoprogress.ablations.architectures.vit import ViT
from algoprogress.ablations.ladder import LARGEST_STD, LOGIT_STD
from algoprogress.ablations.optimizers import OptimizerConfig
from algoprogress.ablations.optimizers.adam import Adam
from algoprogress.ablations.optimizers.momentum import Momentum
from algoprogress.ablations.probes import Probing, Spectra
from algoprogress.ablations.spec import Data, Evaluation, RunSpec
from algoprogress.ablations.study import Entry, Study, Sweep, question, studies

IMAGES = Data(corpus="digits", tokenizer="pixels-10", context=64)
IMAGE_BATCH = 32 * 64  # values: 32 images
PROBED = 16 * 64  # values that a spectrum is measured on: 16 images
# Few tokens of many frequencies, as in language at large: bytes leave a short training with their frequencies alone.
TEXT = Data(tokenizer="bpe-512", context=64)
VALIDATION = 16_384  # tokens, or values of 256 images
# Without a bound on the gradient's norm, as in the literature's comparison: such a bound is half of what Adam has.
OPTIMIZERS: dict[str, OptimizerConfig] = {"sgd": Momentum(), "adam": Adam()}
# where sweeps begin, of images and of text; three times a factor 2 further where the best is at an edge
RATES = {
    "sgd": {True: (0.05, 0.1, 0.2), False: (0.2, 0.4, 0.8)},
    "adam": {True: (0.002, 0.004, 0.008), False: (0.004, 0.008, 0.016)},
}


class Scale(NamedTuple):
    """Models, steps of each budget, tokens of a step of text, seeds, and what a spectrum rests on."""

    models: dict[str, ArchitectureConfig]
    steps: tuple[int, ...]
    text_batch: int
    seeds: int
    directions: int
    lanczos: int


def models(n_layers: int, width: int, channels: int) -> dict[str, ArchitectureConfig]:
    """Convolutional networks, perceptrons, and Transformers of images, masked text and text."""
    of_transformers: dict[str, Any] = {"width": width, "n_layers": n_layers}
    # of text: N(0, .02), the papers' start, is too small for models this narrow
    of_text = {**of_transformers, "init_std": min(LARGEST_STD, round(LOGIT_STD / math.sqrt(width), 3))}
    return {
        "resnet18": ResNet(width=channels),
        "vgg16": VGG(width=channels, batch_norm=True),
        "mlp": MLP(width=width),
        "mixer": MLPMixer(**of_transformers, channels_width=4 * width),
        "vit": ViT(**of_transformers),
        "bert": BERT(**of_text),
        "gpt2": Transformer.preset("gpt2_nano", **of_text),
    }


def _smoke() -> Scale:
    some = models(1, 16, 4)
    return Scale({"vgg11": VGG(width=4, depth=11), "mlp": some["mlp"], "gpt2": some["gpt2"]}, (8, 16), 256, 1, 1, 4)


def _demo() -> Scale:
    """Convolutional networks of 11 layers, with batch norms and without; those of 16 and 18 take most of an hour."""
    convolutional: dict[str, ArchitectureConfig] = {
        "vgg11": VGG(width=8, depth=11),
        "vgg11_bn": VGG(width=8, depth=11, batch_norm=True),
    }
    others = {name: m for name, m in models(2, 64, 8).items() if name not in ("resnet18", "vgg16")}
    return Scale(convolutional | others, (80, 240), 512, 3, 2, 8)


def _laptop() -> Scale:
    small, large = models(2, 64, 8), models(4, 96, 16)
    both = small | {f"{name}_large": large[name] for name in large}
    return Scale(both, (200, 600, 1800), 1024, 3, 4, 40)


SCALES = {"smoke": _smoke, "demo": _demo, "laptop": _laptop}


def arm(model: ArchitectureConfig, optimizer: str, steps: Iterable[int], text_batch: int) -> tuple[Entry, ...]:
    """One model trained for each number of steps, at each rate that the sweep begins with."""
    images = model.objective == "class"
    batch_tokens = IMAGE_BATCH if images else text_batch
    specs = [
        RunSpec(
            architecture=model,
            tokens=n * batch_tokens,
            batch_tokens=batch_tokens,
            learning_rate=rate,
            optimizer=OPTIMIZERS[optimizer],
            clip=None,
            data=IMAGES if images else TEXT,
            evaluation=Evaluation(tokens=VALIDATION),
        )
        for n in steps
        for rate in RATES[optimizer][images]
    ]
    return tuple(Entry(spec=spec, compute_budget=spec.compute) for spec in specs)


def scale_named(preset: str) -> Scale:
    """What a preset trains.

    Raises:
        ValueError: this study has no such preset.
    """
    if preset not in SCALES:
        raise ValueError(f"this study has the presets {', '.join(SCALES)}, not {preset!r}")
    return SCALES[preset]()


def named(study: str, preset: str) -> str:
    """The study's own name at the default preset, so that its tables are found by it."""
    return study if preset == "laptop" else f"{study}-{preset}"


@studies.register("hessian_heterogeneity")
def hessian_heterogeneity(preset: str = "laptop") -> Study:
    """Is Adam ahead of SGD where the blocks of the Hessian differ, and by as much as they differ?

    Each model by Adam and by SGD with momentum on one task, each at its best rate and for two budgets or more, so that
    the gain of Adam is one of compute too. Spectra of the weights are measured at initialisation and at the end of the
    longest training by Adam, with running statistics in batch norms, and at initialisation with those of the batch.
    """
    scale = scale_named(preset)
    arms = {
        f"{name}_{optimizer}": arm(model, optimizer, scale.steps, scale.text_batch)
        for name, model in scale.models.items()
        for optimizer in OPTIMIZERS
    }
    first = next(iter(scale.models))
    return Study(
        name=named("hessian_heterogeneity", preset),
        question=question(hessian_heterogeneity),
        baseline=f"{first}_sgd",
        arms=arms,
        sweep=Sweep(extensions=3, seeds=scale.seeds),
        against={f"{name}_adam": f"{name}_sgd" for name in scale.models},
        probes=tuple(_probes(scale)),
    )


def _probes(scale: Scale) -> Iterable[Probing]:
    quadrature = {"probes": scale.directions, "steps": scale.lanczos}
    for images, batch_tokens in ((True, PROBED), (False, scale.text_batch)):
        of = [name for name, model in scale.models.items() if (model.objective == "class") == images]
        spectra = Spectra(batch_tokens=batch_tokens, **quadrature)
        yield Probing(probe=spectra, at=(0, "final"), arms=tuple(f"{name}_adam" for name in of), longest=True)
    normed = tuple(f"{name}_adam" for name, m in scale.models.items() if getattr(m, "batch_statistics", False))
    if normed:
        in_training = Spectra(batch_tokens=PROBED, batch_norm="train", **quadrature)
        yield Probing(probe=in_training, at=(0,), arms=normed, longest=True)
