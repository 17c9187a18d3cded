"""Ablations: run variants of an experiment with several seeds over one store, and compare them."""
