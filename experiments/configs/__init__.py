"""Configs: one file per data set, each with its variants."""
