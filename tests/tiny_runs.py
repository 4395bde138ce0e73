"""Makes what training runs of a tiny model leave behind."""

import json

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

import lavae_jax
from experiments import evaluate
from experiments.measure import measure, report
from experiments.run import build, checkpoints
from experiments.run import workdir as run_workdir
from lavae_jax.config import is_baseline
from lavae_jax.training.state import TrainState

# Every value differs from the defaults of the model, and from its neighbours.
CONFIG = lavae_jax.ModelConfig(
    image_shape=(12, 10, 2),
    max_objects=3,
    app_dim=4,
    sprite_size=5,
    gamma=2.0,
    count_threshold=7.5,
    channels=4,
    norm="none",
    stem_stride=2,
    location_hidden=8,
    location_scale=9.0,
    appearance_net="glimpse",
    glimpse_size=7,
    sprite_net="mlp",
    width=11,
    epsilon=1e-3,
    exclusion_radius=1,
    objects_per_image=1.25,
)


def any_config(**changes):
    """Makes a config that no model is made of, with some values changed or added."""
    fields = {"seed": 0, "num_steps": 10, "sizes": (1, 2)}
    config = ConfigDict({"precision": "float32"} | fields)
    config.optimizer = ConfigDict({"learning_rate": 1e-3})
    config.update(changes)
    return config


def save_run(workdir, config, steps):
    """Saves a run's folder: its model's variables, by step, beside other state."""
    run_workdir.claim(workdir, config)
    store = checkpoints.Checkpoints(workdir)
    for step, variables in steps.items():
        params = {"lavae": variables["params"], "auxiliary": {"bias": jnp.ones(2)}}
        state = TrainState(
            step=jnp.int32(step),
            params=variables["params"] if is_baseline(config) else params,
            batch_stats=variables.get("batch_stats", {}),
            opt_state={"momentum": jnp.ones(3)},
            key=jax.random.key(step),
        )
        store.save(step, state, checkpoints.Position({}, []))
    store.close()


def rows(workdir, part):
    """Returns the rows of a part of a run's metrics, without speeds."""
    lines = (workdir / "metrics.jsonl").read_text().splitlines()
    found = [json.loads(line) for line in lines]
    speeds = ("steps_per_second", "images_per_second", "part")
    return [
        {name: value for name, value in row.items() if name not in speeds}
        for row in found
        if row["part"] == part
    ]


def measured_run(workdir, config, variables, num_images):
    """Saves a run that has ended and its report, and returns its folder."""
    steps = {4: variables, config.num_steps: variables}
    save_run(workdir, config, steps)
    measured = evaluate.evaluate(
        config,
        build.build_model(config),
        variables,
        step=config.num_steps,
        settings=measure.Settings(num_images, num_samples=100),
    )
    report.write(measured, workdir / "evaluation" / "report.json")
    return workdir
