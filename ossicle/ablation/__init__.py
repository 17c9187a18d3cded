"""Ablations: variants of an experiment over seeds, run over one store, and what their comparison allows to say."""
