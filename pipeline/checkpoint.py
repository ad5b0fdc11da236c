"""The state of an unfinished run in one safetensors file, which cannot run code when it is read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor, nn

from algoprogress.results.files import open_folder


def write(
    path: Path,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    state: tuple[Tensor, ...] | None,
    progress: dict[str, Any],
) -> None:
    """Replace the checkpoint in one step.

    Args:
        path: the file.
        model: its parameters and buffers are kept.
        optimizer: its tensors and scalars per parameter are kept; groups are rebuilt from the spec.
        state: the recurrent state carried to the next step.
        progress: JSON-able facts of the loop.

    Raises:
        StoreError: the file cannot be written.
    """
    tensors = {f"model.{k}": v for k, v in model.state_dict().items() if k != "head.weight" or not _tied(model)}
    scalars: dict[str, Any] = {}
    for i, values in optimizer.state_dict()["state"].items():
        for key, value in values.items():
            if isinstance(value, Tensor):
                tensors[f"optimizer.{i}.{key}"] = value
            else:
                scalars[f"{i}.{key}"] = value
    for i, tensor in enumerate(state or ()):
        tensors[f"state.{i}"] = tensor
    tensors["generator"] = torch.get_rng_state()
    metadata = {"progress": json.dumps(progress), "scalars": json.dumps(scalars)}
    data = save({k: v.detach().cpu().contiguous() for k, v in tensors.items()}, metadata)
    open_folder(path.parent).replace(path.name, data)


def read(
    path: Path, model: nn.Module, optimizer: torch.optim.Optimizer, device: torch.device
) -> tuple[tuple[Tensor, ...] | None, dict[str, Any]]:
    """Put a checkpoint back into a freshly built model and optimizer.

    Returns:
        The carried state and the facts of the loop.
    """
    with safe_open(path, "pt", device="cpu") as f:
        metadata = f.metadata()
        tensors = {key: f.get_tensor(key) for key in f.keys()}  # noqa: SIM118 - not a dict
    of_model = {k.removeprefix("model."): v for k, v in tensors.items() if k.startswith("model.")}
    if _tied(model):
        of_model["head.weight"] = of_model["embedding.weight"]
    model.load_state_dict(of_model)
    per_parameter: dict[int, dict[str, Any]] = {}
    for key, value in tensors.items():
        if key.startswith("optimizer."):
            _, i, name = key.split(".", 2)
            per_parameter.setdefault(int(i), {})[name] = value
    for key, value in json.loads(metadata["scalars"]).items():
        i, name = key.split(".", 1)
        per_parameter.setdefault(int(i), {})[name] = value
    optimizer.load_state_dict({"state": per_parameter, "param_groups": optimizer.state_dict()["param_groups"]})
    torch.set_rng_state(tensors["generator"])
    state = tuple(tensors[k].to(device) for k in sorted(tensors) if k.startswith("state."))
    return state or None, json.loads(metadata["progress"])


def _tied(model: nn.Module) -> bool:
    head, embedding = getattr(model, "head", None), getattr(model, "embedding", None)
    return head is not None and embedding is not None and head.weight is embedding.weight
