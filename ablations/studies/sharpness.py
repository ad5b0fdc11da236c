"""How sharp are the updates of every optimizer along the trajectories of Adam and of SGD?"""

from __future__ import annotations

from algoprogress.ablations.optimizers import optimizers
from algoprogress.ablations.probes import Probing, Sharpness
from algoprogress.ablations.studies.hessian_heterogeneity import IMAGE_BATCH, OPTIMIZERS, arm, named, scale_named
from algoprogress.ablations.study import Study, Sweep, question, studies

REFERENCE = "sgd"  # whose plain update ratios are to
# of the steps of a run: Pan and Li's sign is not there before about step 100
AT = {"smoke": (0, 4), "demo": (0, 100, 200), "laptop": (0, 20, 100, 400, 1200)}
FIRST = ("momentum", "adam", "adafactor", "lion", "sign")  # what the paper looked at; laptop: all that are registered


@studies.register("sharpness")
def sharpness(preset: str = "laptop") -> Study:
    """Are the updates of Adam and of clipped optimizers less sharp than those of SGD, and since which step?

    Runs are the longest of `hessian_heterogeneity`, of a Transformer of text and, but for the demo, of a convolutional
    network.
    """
    scale = scale_named(preset)
    names = {"smoke": ("gpt2", "vgg11"), "demo": ("gpt2",), "laptop": ("gpt2", "vgg16")}[preset]
    arms = {
        f"{name}_{optimizer}": arm(scale.models[name], optimizer, scale.steps[-1:], scale.text_batch)
        for name in names
        for optimizer in OPTIMIZERS
    }
    others = FIRST if preset != "laptop" else tuple(name for name in optimizers if name != REFERENCE)
    of = Sharpness(optimizers=(REFERENCE, *others), batch_tokens=scale.text_batch, batches=2)
    of_images = of.model_copy(update={"batch_tokens": IMAGE_BATCH})
    return Study(
        name=named("sharpness", preset),
        question=question(sharpness),
        baseline="gpt2_sgd",
        arms=arms,
        sweep=Sweep(extensions=3, seeds=scale.seeds),
        against={f"{name}_adam": f"{name}_sgd" for name in names},
        probes=(
            Probing(probe=of, at=AT[preset], arms=tuple(f"gpt2_{o}" for o in OPTIMIZERS)),
            *(
                Probing(probe=of_images, at=AT[preset], arms=tuple(f"{name}_{o}" for o in OPTIMIZERS))
                for name in names[1:]
            ),
        ),
    )
