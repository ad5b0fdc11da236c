"""What is concluded: frontiers, laws, gains and their dependence on scale. DataFrames in, DataFrames out."""

from algoprogress.analysis.frontier import frontier
from algoprogress.analysis.gains import compute_equivalent_gain
from algoprogress.analysis.joint import JointFit, fit_jointly
from algoprogress.analysis.laws import laws
from algoprogress.analysis.laws.base import Law
from algoprogress.analysis.laws.law import LossLaw
from algoprogress.analysis.multiverse import multiverse
from algoprogress.analysis.nested import nested_models
from algoprogress.analysis.scale import scale_dependence
from algoprogress.analysis.tables import StudyTables, study_tables
from algoprogress.analysis.validate import validate, validation_summary
from algoprogress.analysis.warnings import (
    AnalysisWarning,
    ConvergenceError,
    Extrapolation,
    FewSeeds,
    LawsDisagree,
    NotIdentified,
)

__all__ = [
    "AnalysisWarning",
    "ConvergenceError",
    "Extrapolation",
    "FewSeeds",
    "JointFit",
    "Law",
    "LawsDisagree",
    "LossLaw",
    "NotIdentified",
    "StudyTables",
    "compute_equivalent_gain",
    "fit_jointly",
    "frontier",
    "laws",
    "multiverse",
    "nested_models",
    "scale_dependence",
    "study_tables",
    "validate",
    "validation_summary",
]
