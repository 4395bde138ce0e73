"""Data sets of scenes: multi-dSprites, multi-MNIST and Tetrominoes.

Their commands run from the root of the repository.
"""

from datasets import extras

extras.check()
