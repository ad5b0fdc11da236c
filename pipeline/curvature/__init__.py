"""Curvature of models that are, or were, trained here: their blocks, their state at a step, updates along their way."""
