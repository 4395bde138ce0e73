"""Trains a model.

python -m experiments.train --config=experiments/configs/dsprites.py --workdir=DIR

`dsprites.py:laptop` is a variant of the config; `--config.optimizer.learning_rate=1e-3`
changes one value of it. The same command again goes on where the run was.
"""

from absl import flags

from experiments import cli, loop


def main() -> None:
    """Trains as the flags say."""
    config = flags.FLAGS.config
    workdir = flags.FLAGS.workdir or f"runs/{cli.config_name()}-seed{config.seed}"
    loop.train_and_evaluate(config, workdir)


if __name__ == "__main__":
    cli.define_config()
    flags.DEFINE_string(
        "workdir", None, "The run's folder; by default runs/CONFIG-VARIANT-seedSEED."
    )
    cli.run(main)
