"""What if size and data help at one rate?  L(N, D) = E + A N^-alpha + B D^-alpha: N and D grow alike with compute."""

import pandas as pd

from algoprogress.analysis.laws.chinchilla import Chinchilla


class ChinchillaShared(Chinchilla):
    """`Chinchilla` with alpha = beta, so that a_opt = 1/2: four free parameters, for data that can not give five."""

    name = "chinchilla_shared"
    shareable = ("E", "alpha")
    tied = {"beta": "alpha"}

    @classmethod
    def example(cls) -> tuple[pd.DataFrame, dict[str, float]]:
        design, parameters = super().example()
        return design, parameters | {"beta": parameters["alpha"]}
