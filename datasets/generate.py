"""Generates data sets ahead of their first use.

python -m datasets.generate --name=multi_mnist/1k --data_dir=DIR --manual_dir=MNIST_DIR
"""

from absl import app, flags, logging

from datasets import load

_NAMES = flags.DEFINE_multi_enum(
    "name",
    ["multi_dsprites"],
    list(load.BUILDERS),
    "Make this data set; repeat it for more.",
)
_DATA_DIR = flags.DEFINE_string(
    "data_dir", None, "Write to this folder, by default ~/tensorflow_datasets."
)
_MANUAL_DIR = flags.DEFINE_string(
    "manual_dir",
    None,
    "Find MNIST's gzipped IDX files here; without it they are downloaded.",
)


def main(argv: list[str]) -> None:
    """Generates the data sets named by the flags."""
    if len(argv) > 1:
        raise app.UsageError(f"Unexpected arguments: {' '.join(argv[1:])}.")
    logging.set_verbosity(logging.WARNING)
    for name in _NAMES.value:
        try:
            prepared = load.builder(name, _DATA_DIR.value, _MANUAL_DIR.value)
        except (ValueError, OSError) as error:
            raise SystemExit(f"Can't generate {name}: {error}") from error
        sizes = ", ".join(
            f"{split} {info.num_examples:,}"
            for split, info in prepared.info.splits.items()
        )
        print(f"{name} in {prepared.data_path}: {sizes}")


if __name__ == "__main__":
    app.run(main)
