"""Commands, run from the repository root: train, evaluate."""
