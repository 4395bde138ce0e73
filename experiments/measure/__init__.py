"""Measures models and reports the results."""
