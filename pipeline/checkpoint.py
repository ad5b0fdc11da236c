"""The state of an unfinished run in one safetensors file, which cannot run code when it is read.

The file is a path, or a URL that fsspec opens: a run whose machine was lost goes on elsewhere. It is replaced in one
step, and its tensors are proved by a SHA-256, which safetensors itself does not have.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load, save
from torch import Tensor, nn

from algoprogress.results.files import Folder, open_folder


def write(
    path: str | Path,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    state: tuple[Tensor, ...] | None,
    progress: dict[str, Any],
) -> None:
    """Replace the checkpoint in one step.

    Args:
        path: the file or URL.
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
    if any(tensor.is_cuda for tensor in tensors.values()):
        tensors["generator.cuda"] = torch.cuda.get_rng_state()  # dropout draws its numbers on the device
    tensors = {k: v.detach().cpu().contiguous() for k, v in tensors.items()}
    metadata = {"progress": json.dumps(progress), "scalars": json.dumps(scalars)}
    metadata["sha256"] = _digest(tensors, metadata)
    folder, name = _place(path)
    folder.replace(name, save(tensors, metadata))


def read(
    path: str | Path, model: nn.Module, optimizer: torch.optim.Optimizer, device: torch.device
) -> tuple[tuple[Tensor, ...] | None, dict[str, Any]]:
    """Put a checkpoint back into a freshly built model and optimizer.

    Returns:
        The carried state and the facts of the loop.

    Raises:
        ValueError: it is not what was written.
    """
    folder, name = _place(path)
    data = folder.read(name)
    header = int.from_bytes(data[:8], "little")  # the format: length of a JSON header, the header, the tensors
    if not 0 < header <= len(data) - 8:
        raise ValueError("it is not a whole safetensors file")
    metadata = json.loads(data[8 : 8 + header])["__metadata__"]
    tensors = load(data)
    if metadata.pop("sha256", None) != _digest(tensors, metadata):
        raise ValueError("it does not have the SHA-256 that was stored with it")
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
    if "generator.cuda" in tensors and device.type == "cuda":
        torch.cuda.set_rng_state(tensors["generator.cuda"])
    state = tuple(tensors[k].to(device) for k in sorted(tensors) if k.startswith("state."))
    return state or None, json.loads(metadata["progress"])


def exists(path: str | Path) -> bool:
    """Whether there is a checkpoint."""
    folder, name = _place(path)
    return folder.exists(name)


def remove(path: str | Path) -> None:
    """Remove a checkpoint, if there is one."""
    folder, name = _place(path)
    folder.remove(name)


def _place(path: str | Path) -> tuple[Folder, str]:
    parent, _, name = str(path).rpartition("/")
    return open_folder(parent or "."), name


def _digest(tensors: dict[str, Tensor], metadata: dict[str, str]) -> str:
    digest = hashlib.sha256(json.dumps(metadata, sort_keys=True).encode())
    for key in sorted(tensors):
        tensor = tensors[key]
        digest.update(f"{key} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _tied(model: nn.Module) -> bool:
    head, embedding = getattr(model, "head", None), getattr(model, "embedding", None)
    return head is not None and embedding is not None and head.weight is embedding.weight
