"""What the run of an ablation gave, measured on held-out scenes alone."""

import json
import pathlib
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

import lavae_jax
from experiments import build, cli, input_pipeline, measure, parameters, report
from lavae_jax import metrics
from lavae_jax.metrics import Estimate

NUM_SAMPLES = 20
FILE = "ablation.json"


class Measured(NamedTuple):
    """A trained model on held-out scenes; nats per image."""

    num_images: int
    num_samples: int  # K
    count_accuracy: float
    confusion: np.ndarray  # [N+1, N+1] images, true counts in rows
    negative_elbo: Estimate  # with exact draws
    negative_log_p: Estimate  # upper bound with K importance samples
    effective_samples: float  # (sum w)^2 / sum w^2, mean over images


class Curve(NamedTuple):
    """What a run reported on its way, by step."""

    steps: tuple[int, ...]
    elbo: tuple[float, ...]  # training batches since the last report, at their ε
    held_out_steps: tuple[int, ...]
    count_accuracy: tuple[float, ...]


class Result(NamedTuple):
    """One run."""

    study: str  # what all runs of a config and length are called
    config: str  # FILE[:VARIANT]
    num_steps: int
    shared: dict[str, Any]  # what all of them change in the config
    name: str  # of the setting
    changes: dict[str, Any]  # against the base that it is compared with
    seed: int
    command: str
    parameters: int
    image_gflop: float  # see `image_gflop`
    diverged_at: int | None  # step
    measured: Measured | None  # None if the run diverged
    curve: Curve


class Results(NamedTuple):
    """All runs."""

    runs: tuple[Result, ...]


def write(result: Result, folder: pathlib.Path) -> None:
    """Keeps a result in the folder of its run."""
    report.write(result, folder / FILE)


def read(folder: pathlib.Path) -> Result | None:
    """The result in the folder of a run; None where there is none.

    Raises:
      cli.UserError: If it is none of this version.
    """
    path = folder / FILE
    if not path.exists():
        return None
    try:
        return report.typed(Result, json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, TypeError) as error:
        raise cli.UserError(
            f"{path} is not a result of this version of experiments.ablations: {error}."
            f" Delete it, and {folder} is measured again."
        ) from error


def measure_run(config: ConfigDict, folder: pathlib.Path) -> Measured:
    """Measures the newest model of a run on the run's held-out scenes.

    Args:
      config: The run's.
      folder: Its workdir.
    """
    model, variables = lavae_jax.load(folder)
    held_out = input_pipeline.load_data(config).held_out
    image_set = measure.ImageSet("held-out scenes", held_out.images)
    settings = measure.Settings(num_samples=NUM_SAMPLES)
    inferred = measure.infer(model, variables, image_set, settings)
    log_weights, n = inferred.log_weights.astype(np.float64), inferred.scenes.n
    (bound,) = metrics.importance_bounds(log_weights.T, [NUM_SAMPLES])
    largest = int(max(held_out.n.max(), n.max()))
    return Measured(
        num_images=len(held_out.n),
        num_samples=NUM_SAMPLES,
        count_accuracy=metrics.count_accuracy(held_out.n, n),
        confusion=metrics.count_confusion(held_out.n, n, largest),
        negative_elbo=metrics.mean_and_error(-log_weights.mean(axis=1)),
        negative_log_p=metrics.mean_and_error(-bound.log_p),
        effective_samples=float(bound.effective_samples.mean()),
    )


def read_curve(folder: pathlib.Path) -> Curve:
    """What the run in a folder has reported."""
    path = folder / "metrics.jsonl"
    lines = path.read_text().splitlines() if path.exists() else []
    rows = [json.loads(line) for line in lines]
    # LAVAE has no ELBO yet while the auxiliary VAE is trained alone.
    trained = [row for row in rows if row["part"] == "train" and "elbo" in row]
    held_out = [row for row in rows if row["part"] == "held_out"]
    return Curve(
        steps=tuple(row["step"] for row in trained),
        elbo=tuple(row["elbo"] for row in trained),
        held_out_steps=tuple(row["step"] for row in held_out),
        count_accuracy=tuple(row["count_accuracy"] for row in held_out),
    )


def num_parameters(config: ConfigDict) -> int:
    """The size of a config's model."""
    return parameters.count_parameters(config)[-1].parameters


def image_gflop(config: ConfigDict) -> float:
    """What the networks that see whole images cost: 1e9 operations per image.

    Of one forward and one backward pass, as XLA counts them before it optimises. What
    is computed per object comes on top; parameters tell more of that.
    """
    model = build.build_model(config)
    images = jax.ShapeDtypeStruct((1, *model.image_shape), jnp.float32)
    variables = jax.eval_shape(model.init, jax.random.key(0), images)

    def total(params, batch_stats, x):
        bound = model.bind({"params": params, "batch_stats": batch_stats})
        return bound.location_logits(x).sum() + bound.appearance_features(x).sum()

    gradient = jax.jit(jax.grad(total))
    lowered = gradient.lower(
        variables["params"], variables.get("batch_stats", {}), images
    )
    return lowered.cost_analysis()["flops"] / 1e9
