"""Commands, run from the repository root: train, evaluate."""

from datasets import extras

extras.check()
