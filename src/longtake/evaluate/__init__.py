"""Scores of films: the closed-world reader, metrics, prompts and reports."""
