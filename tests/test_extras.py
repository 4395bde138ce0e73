"""A command names the packages that are missing, before anything else."""

import pytest

from datasets import extras


def test_missing_packages_are_named(monkeypatch):
    """The command ends with the names of what is missing and how to install it.

    A package that is a part of another, which is missing too, is among them.
    """
    missing = {"nowhere_at_all": "one", "nowhere_at_all.protobuf": "protobuf"}
    monkeypatch.setattr(extras, "PACKAGES", {**missing, "jax": "jax"})
    with pytest.raises(SystemExit, match=r"error: one, protobuf can't .*\[train\]"):
        extras.check()
