"""The packages that the commands need beyond those of the library `lavae_jax`."""

import importlib.util
import sys

PACKAGES = {
    "absl": "absl-py",
    "etils": "etils",
    "google.protobuf": "protobuf",
    "grain": "grain",
    "h5py": "h5py",
    "importlib_resources": "importlib_resources",
    "joblib": "joblib",
    "ml_collections": "ml_collections",
    "PIL": "Pillow",
    "requests": "requests",
    "rich": "rich",
    "skimage": "scikit-image",
    "tensorboardX": "tensorboardX",
    "tensorflow_datasets": "tensorflow-datasets",
    "tqdm": "tqdm",
}
"""The packages of the extra `train` in setup.cfg, by the names they are imported by."""


def check() -> None:
    """Ends the program with a message if one of `PACKAGES` is not installed."""
    missing = [package for name, package in PACKAGES.items() if not _is_installed(name)]
    if missing:
        sys.exit(
            f"error: {', '.join(missing)} can't be imported: training, evaluation and"
            " data sets need more packages than the library. Install them in the"
            " repository's root: pip install -e '.[train]'."
        )


def _is_installed(name):
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:  # its parent package is missing
        return False
