"""LAVAE: the generative model of Eq. 1 and the inference model of Eq. 5."""

import math
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

from lavae_jax import background as backgrounds
from lavae_jax import blending, compositing, likelihood, slots
from lavae_jax.compositing import Kind as Compositing
from lavae_jax.latents import appearance as appearances
from lavae_jax.latents import counts
from lavae_jax.latents.locations import draw_locations
from lavae_jax.likelihood import Kind as Pixels
from lavae_jax.types import Appearance, Array, Locations

LocationPrior = Literal["uniform", "learned"]


class LAVAE(nn.Module):
    """Combines LAVAE's networks; each method reads like its equation.

    Attributes:
        location_net: x to location logits before γ.
        appearance_net: x and locations to [μ, log σ²].
        f_sprite: appearances to sprites.
        background_net: None for a black background.
        axis_name: mapped axis of devices, if any.

    The other attributes are those of `ModelConfig`.
    """

    location_net: nn.Module
    appearance_net: nn.Module
    f_sprite: nn.Module
    image_shape: tuple[int, int, int]
    max_objects: int = 10
    app_dim: int = 32
    mean_limit: float = 5.0
    logvar_limit: float = 1.0
    sprite_size: int = 21
    gamma: float = 4.0
    count_threshold: float = 16.0
    epsilon: float = 1e-6
    exclusion_radius: int = 0
    location_prior: LocationPrior = "uniform"
    objects_per_image: float = 1.5
    pixels: Pixels = "bernoulli"
    sigma: float = 0.0
    compositing: Compositing = "sum"
    background_net: backgrounds.Network | None = None
    axis_name: str | None = None

    def setup(self) -> None:
        """Makes the parameters outside the networks, a's logits in Eq. 2 first."""
        zeros, shape = nn.initializers.zeros, (self.max_objects + 1,)
        self.prior_n_logits = self.param("prior_n_logits", zeros, shape, jnp.float32)
        if self.learns_sigma:
            self.sigma_shift = self.param("sigma_shift", zeros, (), jnp.float32)
        if self.location_prior == "learned":
            size = self.image_shape[:2]
            self.prior_location = self.param("prior_location", zeros, size, jnp.float32)

    @property
    def num_sites(self) -> int:
        """Returns D = H · W."""
        return self.image_shape[0] * self.image_shape[1]

    @property
    def is_binary(self) -> bool:
        """Tells whether the pixels of images are 0 or 1."""
        return self.pixels == "bernoulli"

    @property
    def background_dim(self) -> int:
        """Returns the number of dimensions of z_bg, 0 without this latent."""
        return 0 if self.background_net is None else self.background_net.dim

    @property
    def learns_sigma(self) -> bool:
        """Tells whether the standard deviation of pixels is a parameter."""
        return not (self.is_binary or self.sigma)

    def noise(self) -> Array | float:
        """Returns ε of binary pixels, or the standard deviation of other ones."""
        if self.learns_sigma:
            # All pixels pull at σ: unscaled, it alone would decide how far the
            # gradient of all parameters is clipped.
            still = lax.stop_gradient(self.sigma_shift)
            moved = (self.sigma_shift - still) / math.prod(self.image_shape)
            return likelihood.learned_sigma(still + moved)
        return self.epsilon if self.is_binary else self.sigma

    def capacity(self, num_images: int) -> int:
        """Returns the size of the buffer of these images' active slots, see `slots`.

        It holds 1.5 times the expected number of objects, plus 8.
        """
        expected = int(1.5 * self.objects_per_image * num_images) + 8
        return min(num_images * self.max_objects, expected)

    # Inference model, Eq. 5.

    def location_logits(
        self, x: Array, train: bool = False, behind: Array | None = None
    ) -> Array:
        """Computes h_loc times γ: [B, H, W, C] to [B, H, W].

        `behind` is the background of x if it is known; otherwise it is inferred.
        """
        return self.gamma * self.location_net(self._foreground(x, behind)[0], train)

    def _foreground(self, x, behind):
        """Returns an image less its background, and the background.

        Beyond the border of what is returned there are zeros, as off every object.
        """
        if behind is None:
            behind = lax.stop_gradient(self.inferred_background(x))
        return x if behind is None else x - behind, behind

    def count(self, h_loc: Array) -> Array:
        """Computes Eq. 7, q(n | x) = δ(n − f_count(h_loc)): [B, H, W] to n̂ [B]."""
        return counts.f_count(
            lax.stop_gradient(h_loc),
            self.count_threshold,
            self.max_objects,
            self.exclusion_radius,
        )

    def locations(
        self, h_loc: Array, n: Array, keys: Array | None, **relaxation: Any
    ) -> Locations:
        """Draws z_loc from q(z_loc | n, x), Eq. 8, with a key per image.

        Without keys, these are the most likely sites. h_loc is [B, H, W], and n [B].
        Draws are exact, or relaxed by the options of `draw_locations`.
        """
        return draw_locations(
            h_loc,
            n,
            self.max_objects,
            keys=keys,
            exclusion_radius=self.exclusion_radius,
            capacity=self.capacity(h_loc.shape[0]),
            **relaxation,
        )

    def appearance_features(
        self, x: Array, train: bool = False, behind: Array | None = None
    ) -> Array:
        """Computes what `appearance` reads; it is the same for every draw of z_loc."""
        foreground, behind = self._foreground(x, behind)
        if behind is not None:
            behind = jnp.broadcast_to(behind, x.shape)
            foreground = jnp.concatenate([foreground, behind], axis=-1)
        return self.appearance_net.features(foreground, train)

    def appearance(self, features: Array, locations: Locations) -> Appearance:
        """Computes Eq. 9: reads the appearance parameters at the active locations.

        The features are those of B images. The locations are K draws for each image,
        [B · K, ...], in a row, and so are the parameters, [B · K, M, L].
        """
        num_images, num_draws = features.shape[0], locations.active.shape[0]
        slots_of_image = jax.tree.map(  # [B · K, M, ...] to [B, K · M, ...]
            lambda a: a.reshape(num_images, -1, *a.shape[2:]), locations
        )
        capacity = self.capacity(num_draws)
        h_app = self.appearance_net.read(features, slots_of_image, capacity)
        h_app = h_app.reshape(num_draws, self.max_objects, -1)
        h_app = jnp.where(locations.active[..., None], h_app, 0)
        return appearances.from_outputs(h_app, self.mean_limit, self.logvar_limit)

    def background_posterior(self, x: Array) -> Appearance | None:
        """Computes the parameters of q(z_bg | x), [B, dim]; None without z_bg."""
        return backgrounds.posterior(self.background_net, x)

    def inferred_background(self, x: Array) -> Array | None:
        """Paints the likeliest background of x, as `background` does."""
        q = self.background_posterior(x)
        return self.background(q and q.mu)

    # Generative model, Eq. 1.

    def sprites(self, z_app: Array, active: Array, train: bool = False) -> Array:
        """Computes f_sprite of Eq. 4 for the active slots: z_app [B, M, L], [B, M].

        The sprites are [B, M, S, S, C] in [0, 1], zeros in inactive slots. With the
        compositing "alpha" these are colours and α, C + 1 channels.
        """

        def decode(module, image, valid, z_app):
            del image
            return module.f_sprite(z_app, valid, train)

        if self.compositing == "alpha":
            z_app = z_app[..., 1:]  # the first number is the depth
        capacity = self.capacity(z_app.shape[0])
        return slots.map_active(
            self, decode, active, (z_app,), capacity, self.axis_name
        )

    def layers(self, z_app: Array, active: Array, train: bool = False) -> Array:
        """Computes what is summed on the canvas for the active slots.

        These are sprites, [B, M, S, S, C], or what `blending.to_layers` makes of them,
        with C + 2 channels.
        """
        sprites = self.sprites(z_app, active, train)
        if self.compositing == "sum":
            return sprites
        return blending.to_layers(sprites, z_app[..., 0])

    def canvas(self, layers: Array, locations: Locations) -> Array:
        """Computes the sum of Eq. 4, [B, H, W, C or C + 2], from [B, M, S, S, ...]."""
        height, width, _ = self.image_shape
        if locations.z_loc is None:
            return compositing.place(layers, locations.site, height, width)
        maps = locations.z_loc.reshape(*locations.site.shape, height, width)
        return compositing.composite(layers, maps)

    def background(self, z_background: Array | None) -> Array | None:
        """Paints what is behind the objects; None if it is black.

        z_background is [B, dim], or None where the background has no latent. The result
        is [B, H, W, C], or [1, 1, 1, C] where it is constant.
        """
        size = self.image_shape[:2]
        return backgrounds.paint(self.background_net, z_background, size)

    def without(self, canvas: Array, layer: Array) -> Array:
        """Takes what an object adds to the sum of Eq. 4 away from the sum."""
        rest = canvas - layer
        # Rounding errors must not make a sum of sprites negative.
        return jnp.maximum(rest, 0) if self.compositing == "sum" else rest

    def blend(self, canvas: Array, background: Array | None) -> Array:
        """Computes λ, [..., H, W, C], from the sum of Eq. 4 and the background."""
        if self.compositing == "sum":
            return canvas if background is None else canvas + background
        black = jnp.zeros((), canvas.dtype)
        return blending.blend(canvas, black if background is None else background)

    def paint(
        self,
        z_app: Array,
        z_background: Array | None,
        locations: Locations,
        train: bool = False,
    ) -> Array:
        """Computes λ of Eq. 4, [B, H, W, C], with the background."""
        layers = self.layers(z_app, locations.active, train)
        return self.blend(self.canvas(layers, locations), self.background(z_background))

    def log_likelihood(
        self, x: Array, canvas: Array, noise: Array | float | None = None
    ) -> Array:
        """Computes Eq. 12, log p(x | z), nats, [B], for λ; `noise` is the model's."""
        noise = self.noise() if noise is None else noise
        log_p = likelihood.log_likelihood(x, canvas, noise, self.pixels)
        return log_p.sum(axis=(1, 2, 3))

    def pixel_mean(self, canvas: Array) -> Array:
        """Computes the means of the pixels for λ, [..., H, W, C]."""
        if self.is_binary:
            return likelihood.pixel_mean(canvas, self.epsilon)
        return jnp.clip(canvas, 0, 1)

    def log_p_n(self, n: Array) -> Array:
        """Computes Eq. 2, log p(n), nats, [B]."""
        return counts.log_p_n(n, self.prior_n_logits)

    def log_prior_of_sites(self) -> Array | None:
        """Returns the log-probability of each site, nats, [D]; None if they are equal.

        The paper's prior is uniform. A learned one knows how near the border objects
        lie.
        """
        if self.location_prior == "uniform":
            return None
        return jax.nn.log_softmax(self.prior_location.reshape(-1))

    def __call__(self, x: Array, train: bool = False) -> Array:
        """Reconstructs x [B, H, W, C] as one object at h_loc's maximum.

        This call uses every parameter, as `init` needs.
        """
        h_loc = self.location_logits(x, train)
        n = jnp.ones(x.shape[0], jnp.int32)
        locations = draw_locations(h_loc, n, self.max_objects, keys=None)
        appearance = self.appearance(self.appearance_features(x, train), locations)
        background = self.background_posterior(x)
        z_background = background and background.mu
        return self.paint(appearance.mu, z_background, locations, train)
