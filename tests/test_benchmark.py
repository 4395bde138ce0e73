"""The benchmark: what it counts, what it compares, and what a user reads."""

import functools
import io
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from rich.console import Console

from experiments import (
    benchmark,
    benchmark_phases,
    benchmark_plain,
    benchmark_programs,
    benchmark_report,
    benchmark_scenes,
    build,
    cli,
)
from experiments.configs import baseline_dsprites, dsprites
from lavae_jax import slots
from lavae_jax.objectives import reconstruct
from lavae_jax.types import hard_locations
from tests import tiny_models
from tests.commands import ROOT, run_here, run_python

# optax and distrax mix dtypes and ranks.
pytestmark = pytest.mark.standard_promotion

CONFIG = "experiments/configs/dsprites.py:tiny"
REPEATS = 2


def _config():
    """A run with one phase, in which objects are drawn and h_loc is trained."""
    config = dsprites.get_config("tiny")
    config.update(num_steps=3, batch_size=8)
    config.warmup.update(auxiliary_steps=0, lead_steps=0, proposal_steps=0)
    config.warmup.update(settle_steps=0, location_every=1, appearance_updates=2)
    return config


@pytest.fixture(scope="module")
def result():
    """What a benchmark of one phase finds."""
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        return benchmark.benchmark(_config(), REPEATS)


def test_operations_of_a_matrix_product():
    """XLA's count is that of the text books."""
    a, b = jnp.ones((30, 200)), jnp.ones((200, 70))
    program = benchmark_programs.make(jnp.matmul, a, b)
    np.testing.assert_allclose(program.gflop, 2e-9 * 30 * 200 * 70)
    np.testing.assert_allclose(program.rate(0.5), program.gflop / 0.5e-3)
    assert not program.has_branches


def test_parts(result):
    """The parts of the phases that occur, how often, and shares of the whole step."""
    per_step = {part.name: part.per_step for part in result.parts}
    assert per_step == {
        "location net": 1,
        "sampling of sites": 1,
        "appearance net": 2,
        "sprites": 2,
        "compositing": 2,
        "likelihood": 2,
        "refinement": 1,
        "optimiser, h_loc": 1,
        "optimiser, the rest": 2,
    }
    whole = result.forms[0].milliseconds
    for part in result.parts:
        assert 0 < part.time.low <= part.time.median <= part.time.high
        np.testing.assert_allclose(part.share, part.per_step * part.time.median / whole)
        rate = part.gflop / (1e-3 * part.time.median)
        np.testing.assert_allclose(part.gflop_per_second, rate)
        np.testing.assert_allclose(
            part.of_matmul, rate / result.matmul_gflop_per_second
        )


def test_operations_of_the_sprites(result):
    """Of the buffer that is used, not of one for all slots; thrice for the gradient."""
    config = _config()
    model = config.model
    rows = slots.capacity_for(
        config.batch_size, model.max_objects, model.objects_per_image
    )
    assert rows < config.batch_size * model.max_objects / 2
    pixels = model.sprite_size**2 * model.image_shape[2]
    weights = model.app_dim * model.width + 2 * model.width**2 + model.width * pixels
    (sprites,) = (part for part in result.parts if part.name == "sprites")
    # Activation functions add a little.
    assert 1 < sprites.gflop / (3 * 2e-9 * rows * weights) < 1.15


def test_the_whole_step(result):
    """A step of batch_size images; objects are as many as in the data, and seen."""
    (phase,), (form,) = result.phases, result.forms
    assert (phase.name, phase.first_step, phase.num_steps) == (
        "location net, objects",
        1,
        3,
    )
    np.testing.assert_allclose(phase.images_per_second, 8e3 / phase.time.median)
    np.testing.assert_allclose(form.milliseconds, phase.time.median)
    np.testing.assert_allclose(form.images_per_second, phase.images_per_second)
    assert form.gigabytes > 0
    assert result.objects_per_image == result.objects_seen == 1.5


def test_tables_name_every_part(result):
    """In the printed text, with the plain forms where these were measured."""
    slow = result.forms[0]._replace(name="plain", images_per_second=0.25, gigabytes=1.5)
    fast = result.forms[0]._replace(images_per_second=1.0)
    text = io.StringIO()
    benchmark_report.print_tables(
        result._replace(forms=(fast, slow)), Console(file=text, width=100)
    )
    for name in (*(part.name for part in result.parts), "the rest", "4.00×"):
        assert name in text.getvalue()
    text = io.StringIO()
    benchmark_report.print_tables(result, Console(file=text, width=100))
    assert "plain" not in text.getvalue()


def test_the_command(tmp_path):
    """From flags to a file, here for the one step that only the auxiliary VAE makes."""
    path = tmp_path / "new" / "benchmark.json"
    arguments = ("--config.num_steps=1", "--repeats=1", "--compare", f"--json={path}")
    done = run_python("-m", "experiments.benchmark", f"--config={CONFIG}", *arguments)
    assert done.returncode == 0, done.stderr
    written = json.loads(path.read_text())
    assert set(written) == set(benchmark_report.Benchmark._fields)
    assert [part["name"] for part in written["parts"]] == [
        "auxiliary VAE",
        "optimiser, aux. VAE",
    ]
    assert set(written["parts"][0]) == set(benchmark_report.PartCost._fields)
    assert [phase["name"] for phase in written["phases"]] == ["auxiliary VAE"]
    names = [form["name"] for form in written["forms"]]
    assert names[0] == "this package"
    assert len(names) == 4
    assert all(name in done.stdout for name in names)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("batch_size", 0, "batch_size must be at least 1: got 0."),
        ("num_steps", 0, "num_steps must be at least 1: got 0."),
        ("data.name", "multi_mnist/1k", "take the config of this data set"),
        ("model.width", 0, "model.width must be at least 1: got 0."),
    ],
)
def test_impossible_values_are_refused_at_the_start(name, value, message):
    """Naming what is wrong."""
    config = dsprites.get_config("tiny")
    config.update_from_flattened_dict({name: value})
    with pytest.raises(cli.UserError, match=message):
        benchmark.benchmark(config)


def test_other_impossible_requests_are_refused_at_the_start(capsys):
    """No run at all, the baseline, which has no such parts, and a folder as file."""
    with pytest.raises(cli.UserError, match="--repeats must be at least 1: got 0"):
        benchmark.benchmark(dsprites.get_config("tiny"), repeats=0)
    with pytest.raises(cli.UserError, match="take a config of LAVAE"):
        benchmark.benchmark(baseline_dsprites.get_config("tiny"))
    arguments = (f"--config={ROOT / CONFIG}", "--json=.")
    said = "error: --json: . is a folder: name a file.\n"
    assert run_here(benchmark, *arguments) == (1, said)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("name", ["multi_dsprites", "multi_mnist/10k"])
def test_scenes(name):
    """Lit pixels are around the sites, 3, 1, 2 and 0 objects in turn."""
    scenes = benchmark_scenes.make(name, 11, 4)
    np.testing.assert_array_equal(scenes.n, [3, 1, 2, 0, 3, 1, 2, 0, 3, 1, 2])
    np.testing.assert_array_equal(scenes.active.sum(axis=1), scenes.n)
    np.testing.assert_array_equal(scenes.images[8], scenes.images[0])
    assert (scenes.images[4] != scenes.images[0]).any()
    channels = 3 if name == "multi_dsprites" else 1
    assert scenes.images.shape == (11, 64, 64, channels)
    unexplained = scenes.images.any(axis=3)
    for image, sites, active in zip(
        unexplained, scenes.site, scenes.active, strict=True
    ):
        for row, column in zip(*divmod(sites[active], 64), strict=True):
            box = np.s_[max(row - 10, 0) : row + 11, max(column - 10, 0) : column + 11]
            assert image[box].any()
            image[box] = False
    assert not unexplained.any()


def test_scenes_for_few_slots():
    """A model with fewer slots than objects gets as many as it has."""
    scenes = benchmark_scenes.make("multi_dsprites", 3, 2)
    np.testing.assert_array_equal(scenes.n, [2, 1, 2])
    assert scenes.centres.shape == (3, 2, 2)


def test_phases_are_those_of_the_train_step():
    """Steps of one phase, and no others, are made by the same function."""
    config = dsprites.get_config("tiny")
    config.num_steps = 9
    made_by = {}
    train_step_at = build.build(config).train_step_at
    for number in range(1, 10):
        made_by.setdefault(train_step_at(number), []).append(number)
    phases = benchmark_phases.occurring(config)
    assert [(p.first_step, p.num_steps) for p in phases] == [
        (numbers[0], len(numbers)) for numbers in made_by.values()
    ]
    assert phases[0].name == "auxiliary VAE"
    assert phases[1].name == "auxiliary VAE, location net, objects at KL peaks"
    assert phases[-1].name == "objects"


def _locations(model):
    """Some objects at random sites; one image has none, one has an object per slot."""
    rng = np.random.default_rng(0)
    active = np.arange(model.max_objects) < np.array([[2], [0], [5], [1]])
    sites = rng.integers(0, model.num_sites, active.shape)
    return hard_locations(jnp.asarray(sites, jnp.int32), jnp.asarray(active))


@functools.partial(jax.jit, static_argnums=0)
def _loss_and_gradients(model, variables, x, at, logits, keys):
    """For all parameters and, if any, logits of the locations.

    With every term and batch statistic.
    """

    def loss(params, logits):
        there = at
        if logits is not None:
            z_loc = jax.nn.softmax(logits) * at.active[..., None]
            there = at._replace(z_loc=z_loc)

        def forward(bound):
            return reconstruct(bound, x, there, at.active.sum(1), keys, train=True)

        result, updates = model.apply(
            variables | {"params": params}, method=forward, mutable=["batch_stats"]
        )
        return -result.terms.elbo.mean(), (result.terms, updates)

    differentiate = jax.value_and_grad(loss, argnums=(0, 1), has_aux=True)
    return differentiate(variables["params"], logits)


@pytest.mark.parametrize("relaxed", [True, False])
def test_plain_forms_compute_the_same(relaxed):
    """Same parameters, locations and keys: same loss and same gradients."""
    model = tiny_models.tiny_model(
        (12, 18, 2),
        norm="batch" if relaxed else "none",
        appearance_net="trunk" if relaxed else "glimpse",
        # Room for some objects but not for all slots.
        objects_per_image=0.1,
        max_objects=5,
    )
    first, *_, last = benchmark_plain.forms(model, grouped=relaxed)
    assert first.model is model
    variables = tiny_models.random_variables(model, scale=0.3)
    x, at = tiny_models.binary_images(model, 4), _locations(model)
    logits = None
    if relaxed:
        shape = (*at.site.shape, model.num_sites)
        logits = jnp.asarray(np.random.default_rng(1).normal(0, 3, shape), jnp.float32)
    inputs = variables, x, at, logits, tiny_models.image_keys(4)
    expected = _loss_and_gradients(model, *inputs)
    found = _loss_and_gradients(last.model, *inputs)
    gradient = expected[1][0]
    for part in ("appearance_net", "f_sprite"):
        largest = max(jnp.abs(leaf).max() for leaf in jax.tree.leaves(gradient[part]))
        assert largest > 0.5
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-3),
        found,
        expected,
    )
