"""RunSpec: everything that decides what one training computes, and the identity that follows from it."""

from __future__ import annotations

import hashlib
import json
import re
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, SerializeAsAny, field_validator, model_validator

from algoprogress.ablations import accounting, batch_warmup
from algoprogress.ablations.architectures import ArchitectureConfig, architectures
from algoprogress.ablations.config import Config, Whole
from algoprogress.ablations.optimizers import OptimizerConfig, optimizers
from algoprogress.ablations.optimizers.adamw import AdamW
from algoprogress.ablations.optimizers.costs import Cost
from algoprogress.ablations.registry import named_config
from algoprogress.ablations.reparameterizations import ReparameterizationConfig, Shapes, reparameterizations
from algoprogress.ablations.schedules import Cosine, ScheduleConfig, schedules

RECIPE = 1  # raised when the trainer's mathematics changes for an unchanged spec; part of every identity


VOCABULARIES = {"bytes": 257, "gpt2": 50_257}  # of the tokenizers that are not trained
LARGEST_BPE = 262_144  # the largest vocabulary in use (Gemma 2024)
MOST_CLASSES = 65_536  # a class is a token of 16 bits


def _architecture(value: Any) -> Any:
    if isinstance(value, dict) and "preset" in value:
        fields = {k: v for k, v in value.items() if k not in ("name", "preset")}
        return architectures[value.get("name") or _owner(value["preset"])].preset(value["preset"], **fields)
    return named_config(architectures)(value)


def _owner(preset: Any) -> str:
    """The architecture that has this preset; the Transformer, which lists its own, where none has."""
    return next((a for a in architectures if preset in list(getattr(architectures[a], "presets", ()))), "transformer")


Architecture = Annotated[SerializeAsAny[ArchitectureConfig], BeforeValidator(_architecture)]
Optimizer = Annotated[SerializeAsAny[OptimizerConfig], BeforeValidator(named_config(optimizers))]
Schedule = Annotated[SerializeAsAny[ScheduleConfig], BeforeValidator(named_config(schedules))]
Reparameterization = Annotated[
    SerializeAsAny[ReparameterizationConfig], BeforeValidator(named_config(reparameterizations))
]


class Data(Config):
    """What is read. A corpus is identified by its content, so its name or path is not part of a run's identity."""

    corpus: str = Field("english", description="a built-in corpus or a path", json_schema_extra={"identity": False})
    corpus_sha256: str | None = Field(None, description="of its documents; filled in when a study is planned")
    tokenizer: str = Field(
        "bytes",
        description="bytes; bpe-V: byte-level BPE of V tokens trained on the corpus; gpt2: shards; pixels-K: the "
        "values of images, and which of K classes each is of",
    )
    context: Whole = Field(
        128, ge=2, description="tokens that a prediction sees; for the LSTM, truncation length; the values of an image"
    )

    @field_validator("tokenizer")
    @classmethod
    def _known(cls, value: str) -> str:
        bpe = re.fullmatch(r"bpe-([1-9]\d{0,8})", value)
        images = re.fullmatch(r"pixels-([1-9]\d{0,8})", value)
        known = value in VOCABULARIES or (bpe and 257 <= int(bpe[1]) <= LARGEST_BPE)
        if not known and not (images and 2 <= int(images[1]) <= MOST_CLASSES):
            raise ValueError(
                f"unknown tokenizer {value!r}; use {', '.join(VOCABULARIES)}, or bpe-V, such as bpe-2048, with V from "
                f"257 (the bytes and the end of text) to {LARGEST_BPE}, or for images pixels-K, such as pixels-10, "
                f"with K from 2 to {MOST_CLASSES} classes"
            )
        return value

    @property
    def vocab_size(self) -> int:
        """V, what a prediction chooses from: tokens, the end of text among them, or the classes of images."""
        return VOCABULARIES.get(self.tokenizer) or int(self.tokenizer.rpartition("-")[2])

    @property
    def images(self) -> bool:
        return self.tokenizer.startswith("pixels-")


class Evaluation(Config):
    """The validation that every run of a study is measured by: the same tokens, each scored once."""

    tokens: Whole = Field(65_536, ge=2, description="validation tokens scored, from the start of the split")
    times: Whole = Field(1, ge=1, description="evaluations at log-spaced steps, the last at the end")
    state: Literal["reset", "carry"] = Field(
        "reset", description="carry: a recurrent model keeps its state from one context to the next"
    )


class RunSpec(Config):
    """One training. Frozen; unknown keys are errors; equal specs are one run."""

    architecture: Architecture
    tokens: Whole = Field(gt=0, description="tokens trained on; a multiple of batch_tokens")
    learning_rate: float = Field(gt=0, description="peak")
    optimizer: Optimizer = AdamW()
    schedule: Schedule = Cosine()
    reparameterization: Reparameterization | None = None
    data: Data = Data()
    batch_tokens: Whole = Field(2048, gt=0, description="tokens in one optimizer step; a multiple of the context")
    batch_stages: Whole = Field(
        1, ge=1, le=16, description="above 1: batches begin small and double at each stage; see `batch_warmup`"
    )
    clip: float | None = Field(1.0, gt=0, description="largest global gradient norm; None: no clipping")
    seed: Whole = Field(0, ge=0, description="of the initial weights, of the order of the data and of dropout")
    dtype: Literal["float32", "bfloat16", "float64", "auto"] = Field(
        "float32",
        description="bfloat16: autocast, with logits and loss in float32; auto: bfloat16 where the hardware multiplies "
        "in it, else float32, settled when a study is planned",
    )
    evaluation: Evaluation = Evaluation()

    @model_validator(mode="after")
    def _fits(self) -> RunSpec:
        if self.batch_tokens % self.data.context:
            raise ValueError(
                f"batch_tokens {self.batch_tokens} is not a multiple of the context {self.data.context}: "
                f"try {max(1, round(self.batch_tokens / self.data.context)) * self.data.context}"
            )
        if self.tokens % self.batch_tokens:
            below = max(1, self.tokens // self.batch_tokens) * self.batch_tokens
            raise ValueError(f"tokens {self.tokens} is not a multiple of batch_tokens {self.batch_tokens}: try {below}")
        if (self.architecture.objective == "class") != self.data.images:
            images = ("images", "pixels-10, with their values as context")
            reads, such_as = ("text", "bytes") if self.data.images else images
            raise ValueError(
                f"the architecture {self.architecture.name} reads {reads} and data.tokenizer is {self.data.tokenizer}: "
                f"take another architecture, or another tokenizer, such as {such_as}"
            )
        self.architecture.check(self.data.vocab_size, self.data.context)
        if self.reparameterization is not None:
            self.reparameterization.check(self._shapes)
        self._check_stages()
        if getattr(self.architecture, "base_width", 0):
            if not self.optimizer.entrywise:
                raise ValueError(f"base_width (muP) has rates for adam and adamw, not for {self.optimizer.name}")
            if self.reparameterization is not None:
                raise ValueError(f"base_width (muP) is of weights, which {self.reparameterization.name} replaces")
        if self.evaluation.state == "carry" and not self.architecture.streams:
            raise ValueError(f"a {self.architecture.name} has no state to carry: set evaluation.state to reset")
        return self

    def _check_stages(self) -> None:
        least = self.data.context << (self.batch_stages - 1)
        if self.batch_tokens % least:
            raise ValueError(
                f"a batch of {self.batch_tokens} tokens in {self.batch_stages} batch_stages begins with less than "
                f"whole contexts of {self.data.context}: take a multiple of {least} tokens, or fewer stages"
            )
        if self.batch_stages > 1 and self.reparameterization is not None:
            raise ValueError(f"{self.reparameterization.name} costs FLOP with every step: leave batch_stages at 1")

    @property
    def stages(self) -> tuple[batch_warmup.Stage, ...]:
        """The sizes of its batches, in order."""
        return batch_warmup.stages(self.tokens, self.batch_tokens, self.batch_stages)

    @property
    def steps(self) -> int:
        """Of the optimizer."""
        return batch_warmup.steps(self.stages)

    def tokens_after(self, step: int) -> int:
        """Tokens of the first `step` steps."""
        return batch_warmup.tokens_after(self.stages, step)

    def whole_batches(self, step: int) -> int:
        """Batches of `batch_tokens` that lie wholly before `step` (from 0): what a schedule takes for the step."""
        return self.tokens_after(step) // self.batch_tokens

    def learning_rate_at(self, step: int) -> float:
        """The schedule goes by tokens, so that it is the same whatever the batches."""
        return self.learning_rate * self.schedule.factor(self.whole_batches(step), self.tokens // self.batch_tokens)

    @property
    def n_params(self) -> int:
        """Non-embedding parameters of the model, reparameterized or not."""
        return accounting.n_params(self.architecture, self.data.vocab_size, self.data.context)

    @property
    def n_params_total(self) -> int:
        return accounting.n_params_total(self.architecture, self.data.vocab_size, self.data.context)

    @property
    def n_params_trained(self) -> int:
        """All trained parameters: n_params_total, or what a reparameterization puts in place of the weights."""
        if self.reparameterization is None:
            return self.n_params_total
        replaced = sum(m * n * stacked for m, n, stacked in self._shapes.values())
        return self.n_params_total - replaced + self.reparameterization.n_trained(self._shapes)

    def flop_per_token(self, convention: str = "standard") -> float:
        """FLOP of one training token; what is paid once a step is spread over the tokens of the batch."""
        model = (self.architecture, self.data.vocab_size, self.data.context)
        extra = accounting.reparameterization_flop(self.reparameterization, *model, convention)
        return accounting.flop_per_token(*model, convention) + extra / self.batch_tokens

    def flop(self, convention: str = "standard", optimizer: bool = False) -> float:
        """FLOP of the training, evaluation not counted; with `optimizer`, that of the optimizer's steps added."""
        steps = self.optimizer_flop_per_step * self.steps if optimizer else 0.0
        return self.flop_per_token(convention) * self.tokens + steps

    @property
    def optimizer_flop_per_step(self) -> float:
        """FLOP of one step of the optimizer, by the rules of `optimizers.costs`."""
        return self._optimizer_cost.flop

    @property
    def optimizer_bytes(self) -> int:
        """Memory that the optimizer keeps from step to step, beside weights and gradients."""
        return int(self._optimizer_cost.state) * (8 if self.dtype == "float64" else 4)

    @property
    def _optimizer_cost(self) -> Cost:
        model = (self.architecture, self.data.vocab_size, self.data.context)
        return accounting.optimizer_cost(self.optimizer, *model, self.reparameterization)

    @property
    def compute(self) -> float:
        """FLOP of the training in the `standard` convention."""
        return self.flop()

    @property
    def _shapes(self) -> Shapes:
        return accounting.linear_shapes(self.architecture, self.data.vocab_size, self.data.context)

    @property
    def run_id(self) -> str:
        """20 hex digits that name this training: sha256 of `identity`."""
        return _digest(identity(self))

    @property
    def configuration_id(self) -> str:
        """The run_id rule without the seed: runs that differ in nothing but the seed share it."""
        return _digest({k: v for k, v in identity(self).items() if k != "seed"})


def identity(spec: RunSpec) -> dict[str, Any]:
    """The science of a run as JSON-able data: fields equal to their default are left out, names of kinds are kept.

    A field that is added later with a default therefore leaves every old identity as it was. Device, threads, paths
    and study names are not fields of a RunSpec and so can never enter.

    Raises:
        ValueError: the corpus is still a name and not yet a content, or the dtype is not settled.
    """
    if spec.dtype == "auto":
        raise ValueError(
            "the dtype 'auto' stands for no number format yet, so this run has no identity: "
            "resolve it with algoprogress.pipeline.plan.resolve(study), or name float32 or bfloat16"
        )
    if spec.data.corpus_sha256 is None:
        raise ValueError(
            f"the corpus {spec.data.corpus!r} is a name, not yet a content, so this run has no identity: "
            "resolve it with algoprogress.pipeline.plan.resolve(study)"
        )
    return {"recipe": RECIPE, **_science(spec)}


def _science(config: Config) -> dict[str, Any]:
    kept: dict[str, Any] = {}
    for name, field in type(config).model_fields.items():
        extra = field.json_schema_extra
        if isinstance(extra, dict) and extra.get("identity") is False:
            continue
        value = getattr(config, name)
        if name == "name" or value != field.get_default(call_default_factory=True):
            kept[name] = _plain(value)
    return kept


def _plain(value: Any) -> Any:
    if isinstance(value, Config):
        return _science(value)
    if isinstance(value, float):
        return value + 0.0  # -0.0 and 0.0 are one number
    if value is None or isinstance(value, bool | int | str):
        return value
    raise ValueError(f"{value!r} has no form that is the same everywhere: use a number, a string or a config")


def _digest(data: dict[str, Any]) -> str:
    text = json.dumps(data, sort_keys=True, separators=(",", ":"), allow_nan=False, ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()[:20]
