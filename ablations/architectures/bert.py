"""BERT of Devlin et al. 2019: a Transformer that sees both sides and learns to restore tokens that were masked.

Shapes: B batch, T context, D width, V vocabulary without the mask.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import Field
from torch import Tensor, nn

from algoprogress.ablations import ops
from algoprogress.ablations.architectures import NARROW_STD, Objective, architectures
from algoprogress.ablations.architectures.encoder import Encoder
from algoprogress.ablations.architectures.transformer import Block, Transformer, initialise


@architectures.register("bert")
class BERT(Encoder):
    """Post-LayerNorm blocks with GELU and biases, learned positions, and the masked language model's output layer.

    The mask is one more entry of the vocabulary, the token V. There are no pairs of sentences, hence no segments.
    """

    name: Literal["bert"] = "bert"
    tied: bool = Field(True, description="the output layer is the token embedding")

    placement: ClassVar[Literal["pre", "post"]] = "post"
    objective: ClassVar[Objective] = "masked tokens"

    presets: ClassVar[dict[str, dict[str, Any]]] = {
        "bert_base": {"width": 768, "n_layers": 12, "head_dim": 64, "dropout": 0.1},
        "bert_nano": {"width": 64, "n_layers": 4, "init_std": NARROW_STD},
    }

    def check(self, vocab_size: int, context: int) -> None:
        _ = self.body

    @property
    def body(self) -> Transformer:
        return super().body.model_copy(update={"tied": self.tied})

    def build(self, vocab_size: int, context: int) -> BERTModel:
        return BERTModel(self, vocab_size, context)

    def parameters(self, vocab_size: int, context: int) -> tuple[int, int]:
        d, entries = self.width, vocab_size + 1
        blocks, blocks_and_tables = self.body.parameters(entries, context)
        n = blocks + 2 * d + (d + 1) * d + 2 * d  # a norm behind the tables; the output layer's own layer and norm
        return n, n + blocks_and_tables - blocks + entries

    def forward_flop(self, vocab_size: int, context: int) -> dict[str, float]:
        parts = self.body.forward_flop(vocab_size + 1, context)
        return {**parts, "layers": parts["layers"] + 2.0 * self.width**2}


class BERTModel(nn.Module):
    def __init__(self, c: BERT, vocab_size: int, context: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocab_size + 1, c.width)
        self.learned = nn.Embedding(context, c.width)
        self.embedding_norm = nn.LayerNorm(c.width)
        self.dropout = nn.Dropout(c.dropout)
        self.blocks = nn.ModuleList(Block(c.body, context, causal=False) for _ in range(c.n_layers))
        self.transform = nn.Linear(c.width, c.width)
        self.transform_norm = nn.LayerNorm(c.width)
        self.head = nn.Linear(c.width, vocab_size + 1)
        if c.tied:
            self.head.weight = self.embedding.weight
        initialise(self, self.head, c.body)

    def forward(self, tokens_BT: Tensor, state: None = None) -> tuple[Tensor, None]:
        x_BTD = self.embedding(tokens_BT) + self.learned.weight[: tokens_BT.shape[1]]
        x_BTD = self.dropout(ops.norm(self.embedding_norm, x_BTD))
        for block in self.blocks:
            x_BTD = block(x_BTD)
        x_BTD = ops.norm(self.transform_norm, ops.gelu(ops.linear(self.transform, x_BTD)))
        return ops.linear(self.head, x_BTD), None
