"""Predicted step times: what is counted, and the arithmetic on it."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from experiments import build, cli, scaling, scaling_count
from experiments.configs import baseline_dsprites, dsprites
from lavae_jax import slots
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


def test_the_page_has_what_the_command_prints():
    """Every prediction on the page follows from the counts on the page."""
    parameters, sums = re.search(
        r"([\d,]+) parameters with gradients; (\d+) sums", PAGE
    ).groups()
    exchange = scaling_count.Exchange(int(parameters.replace(",", "")), int(sums))
    rows = re.findall(r"^\| (\d+) \| ([\d.]+) \| ([\d.]+) \|$", PAGE, re.MULTILINE)
    counts = {
        int(images): scaling_count.Count(float(gflop), float(gigabytes))
        for images, gflop, gigabytes in rows
    }
    assert list(counts) == scaling.shares([64, 512])
    assert scaling.tables(exchange, counts, [64, 512]) in PAGE


@pytest.mark.standard_promotion
def test_counts():
    """A few small steps tell of a larger one, less the sprites that it does not decode.

    Without batch statistics, devices exchange the gradients of all that is trained, and
    nothing before.
    """
    config = dsprites.get_config("tiny")
    config.warmup.appearance_updates = 1
    counter = scaling_count.Counter(config)
    assert counter.phase.name == "location net, objects"
    state = jax.eval_shape(build.build(config).init, jax.random.key(0))
    parameters = sum(leaf.size for leaf in jax.tree.leaves(state.params["lavae"]))
    assert counter.exchange() == (parameters, 1)
    num, model = 256, config.model
    saved = num * model.max_objects - slots.capacity_for(
        num, model.max_objects, model.objects_per_image
    )
    every_slot = counter.counted(num) / 1e9
    expected = every_slot - saved * counter._per_slot / 1e9
    assert saved > 0 and np.all(expected < 0.99 * every_slot)
    assert counter.count(num) == pytest.approx(expected, rel=0.01)


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
