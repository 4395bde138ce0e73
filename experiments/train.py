"""Trains a model.

python -m experiments.train --config=experiments/configs/dsprites.py --workdir=DIR

`dsprites.py:laptop` is a variant of the config; `--config.optimizer.learning_rate=1e-3`
changes one value of it. Running the same command again continues the run.

On several hosts, start the same command on each of them. Where no cluster connects
them, name them by --coordinator_address, --num_processes and --process_id.
"""

from absl import flags

from experiments import cli
from experiments.run import loop, processes


def main() -> None:
    """Trains the model that the flags describe."""
    values = flags.FLAGS
    processes.join(
        values.distributed,
        values.coordinator_address,
        values.num_processes,
        values.process_id,
    )
    workdir = values.workdir or f"runs/{cli.config_name()}-seed{values.config.seed}"
    loop.train_and_evaluate(values.config, workdir)


def _define_flags():
    cli.define_config()
    flags.DEFINE_string(
        "workdir",
        None,
        "Keep the run here (default: runs/CONFIG-VARIANT-seedSEED).",
    )
    flags.DEFINE_boolean(
        "distributed",
        None,
        "Train with a cluster's other processes (default: if JAX finds a Cloud TPU,"
        " Slurm or Kubernetes).",
    )
    flags.DEFINE_string(
        "coordinator_address",
        None,
        "Meet at HOST:PORT of the first process, if JAX finds no cluster; this needs"
        " --num_processes and --process_id.",
    )
    flags.DEFINE_integer("num_processes", None, "Train with this number of processes.")
    flags.DEFINE_integer("process_id", None, "Give this process its number, from 0.")


if __name__ == "__main__":
    _define_flags()
    cli.run(main)
