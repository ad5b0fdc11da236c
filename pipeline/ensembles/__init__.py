"""Runs of one shape that are trained together: the weights of K models as one tensor each, K small steps as one."""
