"""What the commands need beyond the library `lavae_jax`."""

import importlib.util
import sys

PACKAGES = (
    "absl",
    "etils",
    "google",
    "grain",
    "importlib_resources",
    "ml_collections",
    "PIL",
    "requests",
    "rich",
    "tensorboardX",
    "tensorflow_datasets",
    "tqdm",
)
"""The packages of the extra `train` in setup.cfg, by the names they are imported by."""


def check() -> None:
    """Ends the program with a sentence if any of them is not installed."""
    missing = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        sys.exit(
            f"error: {', '.join(missing)} can't be imported: training, evaluation and"
            " data sets need more packages than the library. Install them in the"
            " repository's root: pip install -e '.[train]'."
        )
