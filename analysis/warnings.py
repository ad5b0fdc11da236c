"""Named warnings and the one exception of a fit, so that a caller can silence, catch or show each by its meaning."""


class AnalysisWarning(UserWarning):
    """A result that should be doubted."""


class NotIdentified(AnalysisWarning):
    """The runs do not determine a parameter: other values fit as well, or it sits at a bound."""


class Extrapolation(AnalysisWarning):
    """A value lies outside the measured range of compute."""


class FewSeeds(AnalysisWarning):
    """Too few configurations were repeated with another seed to know the noise well."""


class LawsDisagree(AnalysisWarning):
    """Two ways to the same number give clearly different answers."""


class DuplicateRuns(AnalysisWarning):
    """The same run was given more than once; it was counted once."""


class ConvergenceError(RuntimeError):
    """No start of a fit came to rest at a minimum."""
