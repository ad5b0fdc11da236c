"""The dated list of algorithmic innovations: what each one changed, where it was published, and its published gain.

A row changes fields of a RunSpec, so any of them can be taken out of a recipe that has it and put into one that has
not. Published gains in compute are those of Gundlach et al. 2025 at about 1e16 FLOP, unless the row says otherwise.
"""

from __future__ import annotations

from typing import Any

from pydantic import Field

from algoprogress.ablations.config import Config, Whole
from algoprogress.ablations.spec import RunSpec

ABLATIONS = "Gundlach et al. 2025, ablations at width 64"


class Innovation(Config):
    """One change of practice. `before` and `after` map dotted fields of a RunSpec to what they were and became."""

    name: str
    year: Whole
    axis: str
    before: dict[str, Any]
    after: dict[str, Any]
    paper: str
    published: float | None = Field(None, gt=0, description="published compute-equivalent gain of after over before")
    source: str = Field("", description="of the published gain")
    note: str = ""

    asked_in: str = Field("ablations", description="the study that asks about it; none where losses do not compare")


def row(
    name: str,
    year: int,
    field: str,
    before: Any,
    after: Any,
    paper: str,
    published: float | None = None,
    source: str = "",
    note: str = "",
    asked_in: str = "ablations",
    **others: tuple[Any, Any],
) -> Innovation:
    """An innovation that changes one field; `others` names further fields with what they were and became."""
    changes = {field: (before, after), **{k.replace("__", "."): pair for k, pair in others.items()}}
    return Innovation(
        name=name,
        year=year,
        axis=field.split(".")[-1],
        before={k: b for k, (b, _) in changes.items()},
        after={k: a for k, (_, a) in changes.items()},
        paper=paper,
        published=published,
        source=source or (ABLATIONS if published is not None else ""),
        note=note,
        asked_in=asked_in,
    )


INNOVATIONS: dict[str, Innovation] = {
    innovation.name: innovation
    for innovation in sorted((
        row("momentum", 1964, "optimizer", "sgd", "momentum", "Polyak 1964; Sutskever et al. 2013"),
        row("variance_scaled_init", 2010, "architecture.init", "normal", "xavier", "Glorot and Bengio 2010",
            note="from N(0, .02); embeddings from N(0, .1), which is ours", architecture__init_std=(0.02, 0.1)),
        row("clipping", 2013, "clip", None, 1.0, "Pascanu, Mikolov and Bengio 2013"),
        row("no_dropout", 2022, "architecture.dropout", 0.1, 0.0, "Chowdhery et al. 2022 (PaLM, one epoch)"),
        row("adam", 2014, "optimizer", "momentum", "adam", "Kingma and Ba 2015", 1.67,
            note="the published SGD has a momentum of .98, ours the best of .9, .95 and .98"),
        row("gelu", 2016, "architecture.activation", "relu", "gelu", "Hendrycks and Gimpel 2016"),
        row("subwords", 2016, "data.tokenizer", "bytes", "bpe-2048", "Sennrich, Haddow and Birch 2016",
            note="losses per token of two tokenizers do not compare, only bits per byte do", asked_in=""),
        row("tied_embeddings", 2017, "architecture.tied", False, True, "Press and Wolf 2017"),
        row("warmup", 2017, "schedule.warmup", 0.0, 0.1, "Vaswani et al. 2017; Goyal et al. 2017"),
        row("transformer", 2017, "architecture.name", "lstm", "transformer", "Vaswani et al. 2017", 4.69,
            "Gundlach et al. 2025, retro Transformer over LSTM at 5.277 nats/token",
            asked_in="lstm_vs_transformer"),
        row("mixture_of_experts", 2017, "architecture.experts", 1, 4, "Shazeer et al. 2017; Fedus et al. 2021", 2.0,
            "taken from the literature by Gundlach et al. 2025"),
        row("learned_positions", 2018, "architecture.position", "sinusoidal", "learned", "Radford et al. 2018"),
        row("linear_decay", 2018, "schedule.name", "inverse_sqrt", "linear", "Devlin et al. 2018"),
        row("cosine_from_linear", 2020, "schedule.name", "linear", "cosine",
            "Loshchilov and Hutter 2017; Brown et al. 2020", 1.04),
        row("cosine", 2020, "schedule.name", "inverse_sqrt", "cosine",
            "Loshchilov and Hutter 2017; Brown et al. 2020", 1.04),
        row("adamw", 2019, "optimizer", "adam", "adamw", "Loshchilov and Hutter 2019", 1.00),
        row("pre_norm", 2019, "architecture.placement", "post", "pre", "Radford et al. 2019; Xiong et al. 2020", 1.87),
        row("scaled_init", 2019, "architecture.init", "xavier", "depth_scaled", "Radford et al. 2019",
            note="N(0, .02), and less with depth, in place of Glorot's", architecture__init_std=(0.1, 0.02)),
        row("rmsnorm", 2019, "architecture.norm", "layernorm", "rmsnorm", "Zhang and Sennrich 2019", 1.09),
        row("swiglu", 2020, "architecture.activation", "gelu", "swiglu", "Shazeer 2020", 1.17,
            note="at equal parameters", architecture__ff_ratio=(4.0, 8 / 3)),
        row("swiglu_wider", 2020, "architecture.activation", "gelu", "swiglu", "Shazeer 2020",
            note="at equal width, so with half as many parameters again"),
        row("weight_decay", 2020, "optimizer.weight_decay", 0.01, 0.1, "Brown et al. 2020"),
        row("qk_norm", 2020, "architecture.qk_norm", False, True, "Henry et al. 2020; Dehghani et al. 2023"),
        row("rotary", 2021, "architecture.position", "sinusoidal", "rotary", "Su et al. 2021", 1.44),
        row("rotary_from_learned", 2021, "architecture.position", "learned", "rotary", "Su et al. 2021", 1.26),
        row("no_biases", 2022, "architecture.bias", True, False, "Chowdhery et al. 2022"),
        row("chinchilla", 2022, "allocation", "kaplan", "chinchilla", "Hoffmann et al. 2022", 3.71,
            "Gundlach et al. 2025, from published constants at 1.3e22 FLOP",
            asked_in="kaplan_vs_chinchilla"),
        row("grouped_query", 2023, "architecture.kv_heads", 0, 1, "Shazeer 2019; Ainslie et al. 2023",
            note="one head of keys and values: the extreme, and at two heads the only case"),
        row("batch_warmup", 2018, "batch_stages", 1, 2, "Smith et al. 2018; McCandlish et al. 2018; Brown et al. 2020",
            note="half a batch for the first quarter of the tokens"),
        row("wsd", 2024, "schedule.name", "cosine", "wsd", "Hu et al. 2024"),
        row("muon", 2024, "optimizer", "adamw", "muon", "Jordan et al. 2024"),
    ), key=lambda innovation: innovation.year)
}  # fmt: skip


def changed(spec: RunSpec, fields: dict[str, Any]) -> RunSpec:
    """The spec with dotted fields changed. Another optimizer or schedule comes with its own defaults.

    Raises:
        ValueError: a field that the spec does not have, or a value that it cannot have.
    """
    data = spec.model_dump()
    for path, value in fields.items():
        *parents, last = path.split(".")
        node = data
        for step in parents:
            node = node.get(step) or {}
        if last not in node:
            raise ValueError(f"a run of {spec.architecture.name} by {spec.optimizer.name} has no field {path}")
        if last == "name":
            for other in node.keys() - {"name", "warmup"}:
                del node[other]
        node[last] = value
    return RunSpec.model_validate(data)


def has(spec: RunSpec, fields: dict[str, Any]) -> bool:
    """Whether the spec has these values; an optimizer is known by its name."""
    for path, value in fields.items():
        at: Any = spec
        for step in path.split("."):
            at = getattr(at, step, None)
        if path == "optimizer":
            at = at.name
        if at != value or type(at) is not type(value):
            return False
    return True
