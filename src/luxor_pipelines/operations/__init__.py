"""Pipelines as an operator meets them: found, run, recorded."""
