"""Models, samplings and specs that the tests of POET share."""

import pytest
import torch
from torch import nn

from algoprogress.ablations.architectures.transformer import Transformer
from algoprogress.ablations.reparameterizations import reparameterizations
from algoprogress.ablations.reparameterizations.poet import POET
from algoprogress.ablations.reparameterizations.poet_bs import POETBlockStochastic
from algoprogress.ablations.reparameterizations.poet_fs import POETFullyStochastic
from algoprogress.ablations.spec import Data, RunSpec

V, T = 13, 8
MODEL = Transformer.preset("modern", width=16, n_layers=2)
RETRO = Transformer.preset("retro", width=16, n_layers=1)
every = pytest.mark.parametrize("name", list(reparameterizations))
SAMPLINGS = [POETBlockStochastic(block=4), POETBlockStochastic(block=8), POETFullyStochastic(fraction=0.25)]
samplings = pytest.mark.parametrize("sampling", SAMPLINGS, ids=["bs4", "bs8", "fs"])


def spec(**fields) -> RunSpec:
    base = {"architecture": MODEL, "tokens": 8192, "learning_rate": 0.01, "data": Data(corpus_sha256="ab" * 32)}
    return RunSpec.model_validate(base | fields)


def build(poet: POET | None, architecture: Transformer = MODEL, seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    model = architecture.build(V, T)
    if poet is not None:
        poet.apply(model)
    return model.double()
