"""Makes models small enough to enumerate or to compile in a second."""

import jax
import jax.numpy as jnp
import numpy as np

import lavae_jax
from lavae_jax import background as backgrounds
from lavae_jax import blocks, networks
from lavae_jax.training.state import TrainState


def tiny_model(
    image_shape=(8, 10, 2),
    *,
    max_objects=3,
    app_dim=2,
    sprite_size=3,
    norm="none",
    appearance_net="glimpse",
    sprite_net="mlp",
    compositing="sum",
    background="black",
    axis_name=None,
    dtype=jnp.float32,
    **fields,
) -> lavae_jax.LAVAE:
    """Makes a LAVAE with a few channels."""
    channels, has_opacity = image_shape[2], compositing == "alpha"
    background_net = _background(background, channels)
    site_channels = 0 if background_net is None else channels

    def trunk():
        return blocks.Trunk(3, norm, axis_name=axis_name, num_blocks=1, dtype=dtype)

    if appearance_net == "glimpse":
        appearance = networks.GlimpseAppearanceNet(
            5, 6, app_dim, site_channels, axis_name, dtype
        )
    else:
        appearance = networks.AppearanceNet(trunk(), app_dim)
    shape = sprite_size, channels + has_opacity
    return lavae_jax.LAVAE(
        location_net=networks.LocationNet(trunk(), 3),
        appearance_net=appearance,
        f_sprite=_f_sprite(sprite_net, *shape, axis_name, has_opacity, dtype),
        image_shape=image_shape,
        max_objects=max_objects,
        app_dim=app_dim,
        sprite_size=sprite_size,
        compositing=compositing,
        background_net=background_net,
        axis_name=axis_name,
        **{
            "gamma": 4.0,
            "count_threshold": 0.0,
            "epsilon": 1e-2,
            # One buffer for all slots: a second one doubles what is compiled.
            "objects_per_image": max_objects,
            **fields,
        },
    )


def _background(kind, channels):
    return {
        "black": None,
        "constant": backgrounds.ConstantBackground(channels),
        "smooth": backgrounds.SmoothBackground(channels, dim=1, num_waves=2),
    }[kind]


def _f_sprite(kind, size, channels, axis_name, has_opacity, dtype):
    if kind == "mlp":
        return networks.MLPSpriteDecoder(size, channels, 6, has_opacity, dtype)
    small = dict(base_size=2, base_channels=2, dtype=dtype)
    return networks.SpriteDecoder(size, channels, 3, axis_name, has_opacity, **small)


def random_variables(model, seed=0, scale=0.5):
    """Returns random variables of a size that makes every part of the model matter."""
    shapes = jax.eval_shape(
        model.init, jax.random.key(0), jnp.zeros((1, *model.image_shape))
    )
    return random_leaves(shapes, seed, scale)


def random_leaves(shapes, seed=0, scale=0.5):
    """Returns random numbers of these shapes; variances are positive."""
    rng = np.random.default_rng(seed)

    def draw(path, leaf):
        values = scale * rng.normal(size=leaf.shape)
        positive = path[-1].key == "var"
        return jnp.asarray(1 + np.abs(values) if positive else values, leaf.dtype)

    return jax.tree_util.tree_map_with_path(draw, shapes)


def train_state(model, auxiliary, optimizer, key=None):
    """Makes a state of training in which every part of the model matters."""
    variables = random_variables(model, scale=0.3)
    image, keys = jnp.zeros((1, *model.image_shape)), image_keys(1)
    shapes = jax.eval_shape(auxiliary.init, keys[0], image, keys)
    # At this scale its KL map has peaks.
    vae = random_leaves(shapes, scale=0.3)
    params = {"lavae": variables["params"], "auxiliary": vae["params"]}
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        params=params,
        batch_stats=variables.get("batch_stats", {}),
        opt_state=jax.jit(optimizer.init)(params),
        key=jax.random.key(0) if key is None else key,
    )


def binary_images(model, num_images, seed=0):
    """Returns random images [num_images, H, W, C], with a third of the pixels on."""
    pixels = np.random.default_rng(seed).uniform(size=(num_images, *model.image_shape))
    return (pixels < 1 / 3).astype(np.float32)


def grey_images(model, num_images, seed=0):
    """Returns random images [num_images, H, W, C] with values in 0 to 1."""
    shape = (num_images, *model.image_shape)
    return np.random.default_rng(seed).uniform(size=shape).astype(np.float32)


def image_keys(num_images, seed=0):
    """Returns one key per image."""
    return jax.random.split(jax.random.key(seed), num_images)


def counting_some(model, variables, images, share=0.9993):
    """Returns the model with a threshold by which it counts none to many objects.

    The images are of 0 to 255. A `share` of the sites is below the threshold.
    """
    x = images.astype(np.float32) / 255
    h_loc = model.bind(variables).location_logits(x)
    return model.clone(count_threshold=float(np.quantile(h_loc, share)))
