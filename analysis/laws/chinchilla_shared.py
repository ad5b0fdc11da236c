"""What if size and data help at one rate?  L(N, D) = E + A N^-alpha + B D^-alpha: N and D grow alike with compute."""

import numpy as np

from algoprogress.analysis.laws.chinchilla import Chinchilla
from algoprogress.analysis.loghuber import ALPHA, BETA


class ChinchillaShared(Chinchilla):
    """`Chinchilla` with alpha = beta, so that a_opt = 1/2: four free parameters, for data that can not give five."""

    name = "chinchilla_shared"
    tie = np.delete(np.eye(5), BETA, axis=1) + np.outer(np.eye(5)[BETA], np.arange(4) == ALPHA)
