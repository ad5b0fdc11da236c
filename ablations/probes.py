"""What is measured of the weights of a run: spectra of blocks of its Hessian, or sharpness along optimizers' updates.

A probe's identity is what it measures and how, of which run and step; a study says which of its runs are measured.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator

from algoprogress.ablations.config import Config, Whole

Step = Whole | Literal["final"]


class Measurement(Config):
    """On which tokens curvature is measured, and in which arithmetic."""

    batches: Whole = Field(1, ge=1, description="of validation tokens, averaged over")
    batch_tokens: Whole = Field(1024, ge=1, description="tokens of each")
    dtype: Literal["float32", "float64"] = Field("float32", description="of the model; vectors are float64")
    batch_norm: Literal["eval", "train"] = Field("eval", description="train: with the statistics of each batch")

    def how(self) -> dict[str, Any]:
        """What decides the result, beside run and step."""
        return self.model_dump(mode="json", exclude={"kind"})


class Spectra(Measurement):
    """Lanczos quadratures of diagonal blocks. Defaults take minutes; the literature has 10 probes of 100 steps."""

    kind: Literal["spectra"] = "spectra"
    matrix: Literal["hessian", "gauss_newton"] = "hessian"
    by: Literal["matrix", "tensor", "group", "full"] = Field("matrix", description="matrix: without norms and biases")
    blocks: tuple[str, ...] = Field((), description="only these blocks or groups; empty: all")
    sample: Whole | None = Field(None, ge=1, description="only so many of these, drawn at random by the seed")
    probes: Whole = Field(4, ge=1, description="random directions")
    steps: Whole = Field(40, ge=1, description="of Lanczos")
    trace_products: Whole = Field(0, ge=0, description="of Hutch++ for the trace of each block; 0: no trace")
    seed: Whole = Field(0, ge=0, description="of the random directions")


class Sharpness(Measurement):
    """Sharpness of the update that each optimizer would take, all fed the gradients of the run."""

    kind: Literal["sharpness"] = "sharpness"
    optimizers: tuple[str, ...] = Field(description="registered names; ratios are to the first")
    clip: float = Field(0.1, ge=0, le=1, description="share of an update's coordinates that `clipped` clips")

    @field_validator("optimizers")
    @classmethod
    def _known(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        from algoprogress.ablations.optimizers import optimizers

        if not names:
            raise ValueError("name at least one optimizer")
        for name in names:
            optimizers[name]  # says which there are
        return names


Probe = Annotated[Spectra | Sharpness, Field(discriminator="kind")]


class Probing(Config):
    """A probe of a study's runs: at these steps of each best configuration, every seed of it."""

    probe: Probe
    at: tuple[Step, ...] = Field(min_length=1, description="steps; 0: initial weights")
    arms: tuple[str, ...] = Field((), description="only of these arms; empty: all")
    seeds: Whole | None = Field(None, ge=1, description="only the first so many seeds")
    longest: bool = Field(False, description="only the runs of the largest budget of an arm")

    def steps(self, steps: int) -> tuple[int, ...]:
        """The steps of a run of that many, in order; sharpness needs a gradient, which the last step does not have.

        Raises:
            ValueError: the run is too short.
        """
        last = steps - 1 if self.probe.kind == "sharpness" else steps
        found = tuple(sorted({last if step == "final" else step for step in self.at}))
        if found[-1] > last:
            raise ValueError(f"step {found[-1]} is asked for, and the last of this run that can be measured is {last}")
        return found
