"""Decoder-only Transformer with every axis on which 2017 and 2023 differ.

Shapes: B batch, T context, D width, H heads, K head dimension, F feed-forward width, V vocabulary.
"""

from __future__ import annotations

import math
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from algoprogress.ablations import ops
from algoprogress.ablations.architectures import NARROW_STD, ArchitectureConfig, architectures
from algoprogress.ablations.config import Whole

# Radford et al. 2019: 2017's choices, but norms before the layers, learned positions and smaller residual projections.
GPT2: dict[str, Any] = {
    "activation": "gelu",
    "norm": "layernorm",
    "placement": "pre",
    "position": "learned",
    "bias": True,
    "ff_ratio": 4.0,
    "init": "depth_scaled",
}


@architectures.register("transformer")
class Transformer(ArchitectureConfig):
    """Vaswani et al. 2017 without the encoder; `preset("retro")` is 2017's choice on each axis, `modern` 2023's."""

    name: Literal["transformer"] = "transformer"
    width: Whole = Field(64, ge=1)
    n_layers: Whole = Field(2, ge=1)
    head_dim: Whole = Field(16, ge=1, description="the study's 16; width must be a multiple of it")
    ff_ratio: float = Field(4.0, gt=0, description="F / D; the result is rounded to a multiple of 8")
    activation: Literal["relu", "gelu", "swiglu"] = "swiglu"
    norm: Literal["layernorm", "rmsnorm"] = "rmsnorm"
    placement: Literal["pre", "post"] = "pre"
    position: Literal["learned", "sinusoidal", "rotary"] = "rotary"
    bias: bool = Field(False, description="biases in the linear layers")
    tied: bool = Field(True, description="the output layer is the token embedding")
    dropout: float = Field(0.0, ge=0, lt=1)
    qk_norm: bool = Field(False, description="RMSNorm of each query and key: Henry et al. 2020, Dehghani et al. 2023")
    kv_heads: Whole = Field(
        0,
        ge=0,
        description="heads of keys and values, shared by the queries' (Ainslie et al. 2023); 0: no sharing",
    )
    experts: Whole = Field(1, ge=1, description="feed-forward layers of a block that a router chooses from")
    experts_per_token: Whole = Field(2, ge=1, description="of several experts, those that a token passes through")
    init: Literal["normal", "depth_scaled", "xavier"] = Field(
        "normal", description="depth_scaled divides the residual projections by sqrt(2 n_layers): Radford et al. 2019"
    )
    init_std: float = Field(0.02, gt=0, description="Radford et al. 2018; for xavier only the embeddings use it")

    base_width: Whole = Field(
        0,
        ge=0,
        description="above 0: muP (Yang et al. 2022, table 8, Adam); a rate found at this width is that of all",
    )

    presets: ClassVar[dict[str, dict[str, Any]]] = {
        "retro": {
            "activation": "gelu",
            "norm": "layernorm",
            "placement": "post",
            "position": "sinusoidal",
            "bias": True,
            "ff_ratio": 4.0,
        },
        # 8/3: the gate's third matrix at equal parameters (Shazeer 2020)
        "modern": {
            "activation": "swiglu",
            "norm": "rmsnorm",
            "placement": "pre",
            "position": "rotary",
            "bias": False,
            "ff_ratio": 8 / 3,
        },
        # 124 M parameters with the vocabulary and the 1,024 tokens of Radford et al. 2019; theirs has dropout 0.1
        "gpt2": {**GPT2, "width": 768, "n_layers": 12, "head_dim": 64},
        "gpt2_nano": {**GPT2, "width": 64, "n_layers": 4, "init_std": NARROW_STD},
    }

    @model_validator(mode="after")
    def _heads_fit(self) -> Transformer:
        if self.width % self.head_dim:
            raise ValueError(f"width {self.width} is not a multiple of head_dim {self.head_dim}: change one of them")
        if self.position == "rotary" and self.head_dim % 2:
            raise ValueError(f"rotary positions turn pairs, so head_dim must be even, not {self.head_dim}")
        if self.n_heads % self.n_kv_heads:
            raise ValueError(
                f"{self.n_heads} heads of queries cannot share {self.kv_heads} heads of keys and values: kv_heads is a "
                f"divisor of {self.n_heads}, or 0"
            )
        if 1 < self.experts < self.experts_per_token:
            raise ValueError(f"a token cannot pass {self.experts_per_token} of {self.experts} experts: lower the first")
        return self

    @property
    def n_heads(self) -> int:
        return self.width // self.head_dim

    @property
    def widening(self) -> float:
        """Width over the width at which muP is the standard parametrization; 1 in the latter."""
        return self.width / self.base_width if self.base_width else 1.0

    @property
    def n_kv_heads(self) -> int:
        return self.kv_heads or self.n_heads

    @property
    def ff_width(self) -> int:
        return max(8, 8 * round(self.ff_ratio * self.width / 8))

    def build(self, vocab_size: int, context: int) -> TransformerModel:
        return TransformerModel(self, vocab_size, context)

    def parameters(self, vocab_size: int, context: int) -> tuple[int, int]:
        d, kv, bias = self.width, self.n_kv_heads * self.head_dim, int(self.bias)
        norm = d * (2 if self.norm == "layernorm" else 1)
        attention = 2 * d * d + 2 * d * kv + bias * (2 * d + 2 * kv) + 2 * self.head_dim * int(self.qk_norm)
        feed_forward = self.experts * self._expert_parameters + self._router
        n = self.n_layers * (attention + feed_forward + 2 * norm) + (norm if self.placement == "pre" else 0)
        embedding = vocab_size * d * (1 if self.tied else 2) + (context * d if self.position == "learned" else 0)
        return n, n + embedding

    def idle_parameters(self) -> int:
        idle = self.experts - self.experts_per_token if self.experts > 1 else 0
        return self.n_layers * idle * self._expert_parameters

    @property
    def _expert_parameters(self) -> int:
        d, f, gated = self.width, self.ff_width, self.activation == "swiglu"
        return (3 if gated else 2) * d * f + int(self.bias) * (d + f * (2 if gated else 1))

    @property
    def _router(self) -> int:
        return self.width * self.experts if self.experts > 1 else 0

    def forward_flop(self, vocab_size: int, context: int) -> dict[str, float]:
        d, f, kv = self.width, self.ff_width, self.n_kv_heads * self.head_dim
        passed = self.experts_per_token if self.experts > 1 else 1
        feed_forward = passed * (3 if self.activation == "swiglu" else 2) * d * f + self._router
        matrices = 2 * d * d + 2 * d * kv + feed_forward
        return {
            "layers": 2.0 * self.n_layers * matrices,
            "attention": 4.0 * self.n_layers * context * d,
            "output": 2.0 * d * vocab_size,
        }


def make_norm(kind: str, width: int) -> nn.Module:
    return nn.LayerNorm(width) if kind == "layernorm" else nn.RMSNorm(width, eps=1e-6)


def sinusoids(context: int, width: int) -> Tensor:
    """Vaswani et al. 2017, section 3.5; (T, D)."""
    rates = torch.exp(-math.log(10000.0) * torch.arange(0, width, 2) / width)
    angles = torch.arange(context)[:, None] * rates[None]
    table = torch.zeros(context, width)
    table[:, 0::2] = angles.sin()
    table[:, 1::2] = angles.cos()[:, : width // 2]
    return table


def rotations(context: int, head_dim: int) -> Tensor:
    """Unit complex numbers e^(i t w) of Su et al. 2021, base 10,000; (T, 1, K / 2)."""
    rates = 10000.0 ** (-torch.arange(0, head_dim, 2) / head_dim)
    angles_TK = torch.arange(context)[:, None] * rates
    return torch.polar(torch.ones_like(angles_TK), angles_TK)[:, None]


class Stacked(nn.Linear):
    """Several projections of one input in one product; to what treats weights as matrices each is its own."""

    def __init__(self, d_in: int, d_out: int, n_stacked: int, bias: bool) -> None:
        super().__init__(d_in, n_stacked * d_out, bias=bias)
        self.n_stacked = n_stacked


class Attention(nn.Module):
    turns: Tensor

    def __init__(self, c: Transformer, context: int, causal: bool) -> None:
        super().__init__()
        self.n_heads, self.n_kv_heads, self.dropout, self.causal = c.n_heads, c.n_kv_heads, c.dropout, causal
        self.grouped = self.n_kv_heads < self.n_heads
        if self.grouped:
            self.q = nn.Linear(c.width, c.width, bias=c.bias)
            self.kv = Stacked(c.width, self.n_kv_heads * c.head_dim, 2, bias=c.bias)
        else:
            self.qkv = Stacked(c.width, c.width, 3, bias=c.bias)
        self.out = nn.Linear(c.width, c.width, bias=c.bias)
        self.qk_norm = c.qk_norm
        if c.qk_norm:
            self.q_norm, self.k_norm = make_norm("rmsnorm", c.head_dim), make_norm("rmsnorm", c.head_dim)
        self.rotary = c.position == "rotary"
        if self.rotary:
            # as real pairs: Module.to(dtype) would make a complex buffer real
            turns = torch.view_as_real(rotations(context, c.head_dim))
            self.register_buffer("turns", turns, persistent=False)

    def forward(self, x_BTD: Tensor, residual_BTD: Tensor) -> Tensor:
        turns = self.turns[: x_BTD.shape[1]] if self.rotary else None
        dropout = self.dropout if self.training else 0.0
        y_BTD = ops.attention(self.heads(x_BTD), self.n_heads, turns, dropout, self.causal)
        return ops.linear(self.out, y_BTD, residual_BTD, dropout)

    def heads(self, x_BTD: Tensor) -> Tensor:
        """Queries, keys and values side by side, each of H heads; (B, T, 3 D)."""
        if self.grouped:
            q, kv = ops.linear(self.q, x_BTD), ops.linear(self.kv, x_BTD)
            k, v = kv.unflatten(-1, (2, self.n_kv_heads, -1)).unbind(-3)
            shared = self.n_heads // self.n_kv_heads
            parts = [q.unflatten(-1, (self.n_heads, -1)), *(x.repeat_interleave(shared, dim=-2) for x in (k, v))]
        elif self.qk_norm:
            parts = list(ops.linear(self.qkv, x_BTD).unflatten(-1, (3, self.n_heads, -1)).unbind(-3))
        else:
            return ops.linear(self.qkv, x_BTD)
        if self.qk_norm:
            parts[:2] = self.q_norm(parts[0]), self.k_norm(parts[1])
        return torch.cat([part.flatten(-2) for part in parts], dim=-1)


class FeedForward(nn.Module):
    def __init__(self, c: Transformer) -> None:
        super().__init__()
        self.gated, self.activation, self.dropout = c.activation == "swiglu", c.activation, c.dropout
        self.up = Stacked(c.width, c.ff_width, 2 if self.gated else 1, bias=c.bias)
        self.down = nn.Linear(c.ff_width, c.width, bias=c.bias)

    def forward(self, x: Tensor, residual: Tensor | None) -> Tensor:
        h = ops.linear(self.up, x)
        if self.gated:
            h = ops.swiglu(h)
        else:
            h = ops.gelu(h) if self.activation == "gelu" else h.relu()
        return ops.linear(self.down, h, residual, self.dropout if self.training else 0.0)


class MixtureOfExperts(nn.Module):
    """Each token through the experts of its largest gates, weighted by them: Shazeer et al. 2017, Fedus et al. 2021.

    No token is dropped and no loss evens out the load, so what a token costs is fixed and rows do not touch each other.
    """

    def __init__(self, c: Transformer) -> None:
        super().__init__()
        self.n_chosen = c.experts_per_token
        self.router = nn.Linear(c.width, c.experts, bias=False)
        self.experts = nn.ModuleList(FeedForward(c) for _ in range(c.experts))

    def forward(self, x_BTD: Tensor, residual_BTD: Tensor) -> Tensor:
        x_ND = x_BTD.flatten(0, -2)
        gates, chosen = ops.linear(self.router, x_ND).softmax(-1).topk(self.n_chosen, dim=-1)
        y_ND = residual_BTD.flatten(0, -2)
        for number, expert in enumerate(self.experts):
            token, place = (chosen == number).nonzero(as_tuple=True)
            gated = gates[token, place, None] * expert(x_ND[token], None)
            y_ND = y_ND.index_add(0, token, gated.to(y_ND.dtype))
        return y_ND.view_as(residual_BTD)


class Block(nn.Module):
    def __init__(self, c: Transformer, context: int, causal: bool = True) -> None:
        super().__init__()
        self.pre = c.placement == "pre"
        self.attention = Attention(c, context, causal)
        self.feed_forward = MixtureOfExperts(c) if c.experts > 1 else FeedForward(c)
        self.norm1, self.norm2 = make_norm(c.norm, c.width), make_norm(c.norm, c.width)

    def forward(self, x: Tensor) -> Tensor:
        if self.pre:
            x = self.attention(ops.norm(self.norm1, x), x)
            return self.feed_forward(ops.norm(self.norm2, x), x)
        x = ops.norm(self.norm1, self.attention(x, x))
        return ops.norm(self.norm2, self.feed_forward(x, x))


@torch.no_grad()
def initialise(model: nn.Module, head: nn.Linear, c: Transformer) -> None:
    """Draw the weights of a model of such blocks with this output layer."""
    hidden_std = c.init_std / math.sqrt(c.widening)
    residual = {id(m) for name, m in model.named_modules() if name.endswith((".out", ".down"))}
    for module in model.modules():
        if isinstance(module, nn.Embedding) or module is head:
            nn.init.normal_(module.weight, std=c.init_std)  # type: ignore[arg-type]
        elif isinstance(module, nn.Linear):
            std = hidden_std / math.sqrt(2 * c.n_layers) if id(module) in residual else hidden_std
            if c.init == "xavier":
                nn.init.xavier_uniform_(module.weight)
            else:
                nn.init.normal_(module.weight, std=std if c.init == "depth_scaled" else hidden_std)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    if head.bias is not None:
        nn.init.zeros_(head.bias)


class TransformerModel(nn.Module):
    table: Tensor

    def __init__(self, c: Transformer, vocab_size: int, context: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocab_size, c.width)
        self.learned = nn.Embedding(context, c.width) if c.position == "learned" else None
        self.sinusoidal = c.position == "sinusoidal"
        if self.sinusoidal:
            self.register_buffer("table", sinusoids(context, c.width), persistent=False)
        # Vaswani et al. 2017, section 3.4: the embedding is scaled up before fixed positions are added to it
        self.scale = math.sqrt(c.width / c.widening) if self.sinusoidal else 1.0
        # muP: the sum over the width in the output layer, whose weights do not shrink, is made a mean; and a step of
        # Adam moves a hidden matrix's product by as much at any width. Heads have one size, so scores are as they were.
        self.output_scale = self.hidden_rate = 1 / c.widening
        self.dropout = nn.Dropout(c.dropout)
        self.blocks = nn.ModuleList(Block(c, context) for _ in range(c.n_layers))
        self.norm = make_norm(c.norm, c.width) if c.placement == "pre" else nn.Identity()
        self.head = nn.Linear(c.width, vocab_size, bias=False)
        if c.tied:
            self.head.weight = self.embedding.weight
        initialise(self, self.head, c)

    def forward(self, tokens_BT: Tensor, state: None = None) -> tuple[Tensor, None]:
        T = tokens_BT.shape[1]
        x_BTD = self.embedding(tokens_BT) * self.scale
        if self.learned is not None:
            x_BTD = x_BTD + self.learned.weight[:T]
        elif self.sinusoidal:
            x_BTD = x_BTD + self.table[:T].to(x_BTD.dtype)
        x_BTD = self.dropout(x_BTD)
        for block in self.blocks:
            x_BTD = block(x_BTD)
        x_BTD = ops.norm(self.norm, x_BTD)
        return ops.linear(self.head, x_BTD if self.output_scale == 1.0 else x_BTD * self.output_scale), None
