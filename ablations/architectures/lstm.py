"""LSTM language model after Melis et al. 2018, the baseline of the decade before the Transformer.

Shapes: B streams, T steps of truncated backpropagation, D width, V vocabulary.
"""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from algoprogress.ablations import ops
from algoprogress.ablations.architectures import ArchitectureConfig, architectures
from algoprogress.ablations.config import Whole


@architectures.register("lstm")
class LSTM(ArchitectureConfig):
    """Stacked LSTM, embedding as wide as the cells, trained on contiguous streams with its state carried over."""

    name: Literal["lstm"] = "lstm"
    width: Whole = Field(64, ge=1)
    n_layers: Whole = Field(1, ge=1)
    tied: bool = Field(True, description="the output layer is the token embedding")
    forget_bias: float = Field(1.0, description="initial bias of the forget gate: Jozefowicz et al. 2015")
    dropout: float = Field(0.0, ge=0, lt=1, description="on the embedding, between layers and on the output")

    streams: ClassVar[bool] = True

    def build(self, vocab_size: int, context: int) -> LSTMModel:
        return LSTMModel(self, vocab_size)

    def parameters(self, vocab_size: int, context: int) -> tuple[int, int]:
        d = self.width
        n = self.n_layers * (8 * d * d + 8 * d)  # four gates, input and recurrent matrices, two bias vectors (torch)
        return n, n + vocab_size * d * (1 if self.tied else 2)

    def forward_flop(self, vocab_size: int, context: int) -> dict[str, float]:
        d = self.width
        gates = 2.0 * self.n_layers * 4 * d * d
        return {"layers": gates, "recurrence": gates, "output": 2.0 * d * vocab_size}


class LSTMModel(nn.Module):
    def __init__(self, c: LSTM, vocab_size: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocab_size, c.width)
        self.lstm = nn.LSTM(
            c.width, c.width, c.n_layers, batch_first=True, dropout=c.dropout if c.n_layers > 1 else 0.0
        )
        self.dropout = nn.Dropout(c.dropout)
        self.head = nn.Linear(c.width, vocab_size, bias=False)
        if c.tied:
            self.head.weight = self.embedding.weight
        self.initialise(c)

    @torch.no_grad()
    def initialise(self, c: LSTM) -> None:
        nn.init.uniform_(self.embedding.weight, -0.1, 0.1)  # Zaremba et al. 2014
        if not c.tied:
            nn.init.uniform_(self.head.weight, -0.1, 0.1)
        for layer in self.lstm.all_weights:  # torch draws the matrices from U(-1/sqrt D, 1/sqrt D)
            _, _, bias_input, bias_recurrent = layer
            nn.init.zeros_(bias_input)
            nn.init.zeros_(bias_recurrent)
            bias_input[c.width : 2 * c.width] = c.forget_bias  # torch's order of gates: input, forget, cell, output

    def forward(
        self, tokens_BT: Tensor, state: tuple[Tensor, Tensor] | None = None
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        x_BTD = self.dropout(self.embedding(tokens_BT))
        y_BTD, state = ops.lstm(self.lstm, x_BTD, state)
        return ops.linear(self.head, self.dropout(y_BTD).contiguous()), state
