"""Predicted step times: what is counted, and the arithmetic on it."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from experiments import build, cli, scaling, scaling_count
from experiments.configs import baseline_dsprites, dsprites
from tests.commands import ROOT

PAGE = (ROOT / "experiments" / "SCALING.md").read_text()
CHIP = scaling.Chip("a chip", 2e12, 8e12, 1e9, 4e9)


def test_a_step_takes_as_long_as_its_slower_half():
    """Then comes what is exchanged; by hand."""
    exchange = scaling_count.Exchange(parameters=1_000_000, sums=5)
    count = scaling_count.Count(gflop=4.0, gigabytes=0.001)
    alone = scaling.predict(count, exchange, CHIP, 1)
    assert alone == pytest.approx((2.0, 1.0, 0.0, 0.0))
    assert alone.step == pytest.approx(2.0)
    half = scaling.predict(count, exchange, CHIP, 1, "bfloat16")
    assert half == pytest.approx((0.5, 0.5, 0.0, 0.0))
    several = scaling.predict(count, exchange, CHIP, 4)
    assert several == pytest.approx((2.0, 1.0, 1.5, 0.05))
    assert several.step == pytest.approx(3.55)


@pytest.mark.standard_promotion
def test_the_page_has_what_the_command_prints():
    """It has what the paper's step exchanges, and what follows with its own counts."""
    exchange = scaling_count.Counter(dsprites.get_config("paper")).exchange()
    rows = re.findall(r"^\| (\d+) \| ([\d.]+) \| ([\d.]+) \|$", PAGE, re.MULTILINE)
    counts = {
        int(images): scaling_count.Count(float(gflop), float(gigabytes))
        for images, gflop, gigabytes in rows
    }
    assert list(counts) == scaling.shares([64, 512])
    assert scaling.tables(exchange, counts, [64, 512]) in PAGE


def test_a_step_is_counted_from_smaller_ones():
    """An image adds its share, and a slot that is not decoded saves its own; by hand.

    Of the 640 slots of 64 images 152 are decoded.
    """
    costs = scaling_count.Costs(
        few=np.array([4e9, 1e8]),
        per_image=np.array([1e9, 1e7]),
        per_slot=np.array([1e7, 1e6]),
        num_few=4,
        max_objects=10,
        objects_per_image=1.5,
    )
    assert costs.of(64) == pytest.approx((4 + 60 - 4.88, 0.1 + 0.6 - 0.488), abs=0.05)


@pytest.mark.standard_promotion
def test_counts():
    """Steps and sprites cost what smaller ones tell, of the phase with most steps.

    Devices exchange the gradients of what is trained in it, and nothing before.
    """
    config = dsprites.get_config("tiny")
    config.warmup.update(lead_steps=config.num_steps, auxiliary_steps=config.num_steps)
    counter = scaling_count.Counter(config)
    assert counter.phase.name == "auxiliary VAE"
    state = jax.eval_shape(build.build(config).init, jax.random.key(0))
    parameters = sum(leaf.size for leaf in jax.tree.leaves(state.params["auxiliary"]))
    assert counter.exchange() == (parameters, 1)
    gflop, gigabytes = counter.counted(256) / 1e9
    assert counter.costs().of(256) == pytest.approx((gflop, gigabytes), rel=0.01)
    sprites = [counter.counted_sprites(num) for num in (20, 40, 320)]
    expected = sprites[0] + 15 * (sprites[1] - sprites[0])
    assert sprites[2] == pytest.approx(expected, rel=0.01)


def test_products_are_counted():
    """A matrix product has two operations per multiplication."""
    shapes = [jax.ShapeDtypeStruct(s, np.float32) for s in ((64, 256), (256, 128))]
    flop, num_bytes = scaling_count._cost(jnp.matmul, *shapes)
    assert flop == pytest.approx(2 * 64 * 256 * 128, rel=1e-3)
    assert num_bytes == pytest.approx(4 * (64 * 256 + 256 * 128 + 64 * 128), rel=0.1)


def test_sums_that_wait_for_each_other():
    """The longest chain is counted, also through functions that are called."""

    def function(x):
        mean = lax.pmean(x, "batch")
        variance = jax.jit(lambda x: lax.pmean((x - mean) ** 2, "batch"))(x)
        return variance + lax.pmean(2 * x, "batch"), lax.pmax(variance, "batch")

    traced = jax.make_jaxpr(function, axis_env=[("batch", 2)])(1.0)
    assert scaling_count._sums_in_a_row(traced.jaxpr) == 3


def test_what_can_not_be_counted():
    """The baseline, and batches that a machine can't share."""
    with pytest.raises(cli.UserError, match="the baseline has no phases"):
        scaling_count.Counter(baseline_dsprites.get_config("tiny"))
    with pytest.raises(cli.UserError, match="multiples of the 16 chips of a TPU v4-32"):
        scaling.shares([64, 24])
