"""Builds and reads the data sets by name."""

import importlib

import tensorflow_datasets as tfds


def builder(name, data_dir=None, manual_dir=None):
    """Returns the prepared builder."""
    folder, _, config = name.partition("/")
    module = importlib.import_module(f"datasets.{folder}.{folder}_dataset_builder")
    result = module.Builder(config=config or None, data_dir=data_dir, file_format="array_record")
    result.download_and_prepare(
        download_config=tfds.download.DownloadConfig(manual_dir=manual_dir),
        file_format="array_record",
    )
    return result


def data_source(name, split, data_dir=None, manual_dir=None):
    """Returns a random-access source of the examples of a split."""
    return builder(name, data_dir, manual_dir).as_data_source(split)
