"""The commands of this project. Run them from the repository root."""

from datasets import extras

extras.check()
