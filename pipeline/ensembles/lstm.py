"""The LSTM layer of K members at once, with its gradient by hand: torch's own cannot be batched over weights.

The products over all time steps (with the input, and for the gradients of the weights) are one each; a time step is a
few small operations for all members together.

Shapes: K members, B streams, T time steps, D width; G = 4 D, the gates in torch's order input, forget, cell, output.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


class StackedLSTM(torch.autograd.Function):
    """z = W x + U h + b;  c <- sigmoid(z_f) c + sigmoid(z_i) tanh(z_g);  y = h <- sigmoid(z_o) tanh(c).

    `apply(x_KTBD, h_KBD, c_KBD, W_KGD, U_KGD, b_KG)` is (y_KTBD, h_KBD, c_KBD), the last two after the last time step.
    """

    @staticmethod
    def forward(  # type: ignore[override]
        ctx: Any, x: Tensor, h: Tensor, c: Tensor, W: Tensor, U: Tensor, b: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        (K, T, B, _), D = x.shape, h.shape[-1]
        gates = torch.baddbmm(b[:, None], x.reshape(K, T * B, -1), W.mT).view(K, T, B, 4 * D)
        states = x.new_empty(K, T + 1, B, D)  # h before each time step, and after the last
        cells, squashed = torch.empty_like(states), x.new_empty(K, T, B, D)  # c, and tanh(c) after each time step
        states[:, 0], cells[:, 0] = h, c
        steps = zip(
            gates.unbind(1),
            gates[..., : 2 * D].unbind(1),
            *(part.unbind(1) for part in gates.chunk(4, -1)),
            squashed.unbind(1),
            *(s for both in (cells, states) for s in (both[:, :-1].unbind(1), both[:, 1:].unbind(1))),
            strict=True,
        )
        for z, z_if, i, f, g, o, tanh, c_before, c_after, h_before, h_after in steps:
            z.baddbmm_(h_before, U.mT)
            z_if.sigmoid_()
            g.tanh_()
            o.sigmoid_()
            torch.mul(f, c_before, out=c_after).addcmul_(i, g)
            torch.tanh(c_after, out=tanh)
            torch.mul(o, tanh, out=h_after)
        ctx.save_for_backward(x, W, U, gates, states, cells, squashed)
        return states[:, 1:].clone(), states[:, -1].clone(), cells[:, -1].clone()

    @staticmethod
    def backward(ctx: Any, dy: Tensor, dh: Tensor, dc: Tensor) -> tuple[Tensor, ...]:  # type: ignore[override]
        x, W, U, gates, states, cells, squashed = ctx.saved_tensors
        K, T, B, D = squashed.shape
        i, f, g, o = gates.chunk(4, -1)
        # what a gate's dz is to be multiplied by: dc for input, forget and cell, dh for output
        dz = torch.empty_like(gates)
        torch.mul(i * (1 - i), g, out=dz[..., :D])
        torch.mul(f * (1 - f), cells[:, :-1], out=dz[..., D : 2 * D])
        torch.mul(i, 1 - g * g, out=dz[..., 2 * D : 3 * D])
        torch.mul(o * (1 - o), squashed, out=dz[..., 3 * D :])
        into_cell = o * (1 - squashed * squashed)
        parts = dz.view(K, T, B, 4, D)
        dh, dc = dh.clone(), dc.clone()
        steps = zip(
            *(reversed(part.unbind(1)) for part in (dy, into_cell, parts[..., :3, :], parts[..., 3, :], f, dz)),
            strict=True,
        )
        for dy_t, slope, dz_ifg, dz_o, forget, dz_t in steps:
            dh = dh + dy_t
            dc.addcmul_(dh, slope)
            dz_ifg.mul_(dc[:, :, None])
            dz_o.mul_(dh)
            dc.mul_(forget)
            dh = torch.bmm(dz_t, U)
        dz = dz.view(K, T * B, 4 * D)
        dx = torch.bmm(dz, W).view_as(x)
        dW = torch.bmm(dz.mT, x.reshape(K, T * B, -1))
        dU = torch.bmm(dz.mT, states[:, :-1].reshape(K, T * B, D))
        return dx, dh, dc, dW, dU, dz.sum(1)
