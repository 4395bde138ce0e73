"""Data sets of scenes: multi-dSprites and multi-MNIST. Run from the repository root."""

from datasets import extras

extras.check()
