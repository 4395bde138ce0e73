"""LAVAE: the generative model of Eq. 1 and the inference model of Eq. 5."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

from lavae_jax import compositing, likelihood, slots
from lavae_jax.latents import appearance as appearances
from lavae_jax.latents import counts
from lavae_jax.latents.locations import draw_locations
from lavae_jax.types import Appearance, Array, Locations


class LAVAE(nn.Module):
    """Combines LAVAE's networks; each method reads like its equation.

    Attributes:
        location_net: x to location logits before γ.
        appearance_net: x and locations to [μ, log σ²].
        f_sprite: appearances to sprites.
        axis_name: mapped axis of devices, if any.

    The other attributes are those of `ModelConfig`.

    >>> import jax
    >>> import lavae_jax
    >>> model, variables = lavae_jax.load_pretrained("multi_dsprites")
    >>> images = lavae_jax.generate(model, variables, jax.random.key(1), 3) > 0.5
    >>> x = images.astype(float)
    >>> @jax.jit
    ... def count(x):
    ...     bound = model.bind(variables)
    ...     h_loc = bound.location_logits(x)
    ...     return h_loc, bound.count(h_loc)
    >>> h_loc, n = count(x)
    >>> h_loc.shape, n.tolist()
    ((3, 64, 64), [2, 1, 0])
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
    objects_per_image: float = 1.5
    axis_name: str | None = None

    def setup(self) -> None:
        """Makes the one parameter outside the networks, the logits of a in Eq. 2."""
        self.prior_n_logits = self.param(
            "prior_n_logits",
            nn.initializers.zeros,
            (self.max_objects + 1,),
            jnp.float32,
        )

    @property
    def num_sites(self) -> int:
        """Returns D = H · W."""
        return self.image_shape[0] * self.image_shape[1]

    def capacity(self, num_images: int) -> int:
        """Returns the size of the buffer of these images' active slots, see `slots`.

        It holds 1.5 times the expected number of objects, plus 8.
        """
        expected = int(1.5 * self.objects_per_image * num_images) + 8
        return min(num_images * self.max_objects, expected)

    # Inference model, Eq. 5.

    def location_logits(self, x: Array, train: bool = False) -> Array:
        """Computes h_loc times γ: [B, H, W, C] to [B, H, W]."""
        return self.gamma * self.location_net(x, train)

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

    def appearance_features(self, x: Array, train: bool = False) -> Array:
        """Computes what `appearance` reads; it is the same for every draw of z_loc."""
        return self.appearance_net.features(x, train)

    def appearance(self, features: Array, locations: Locations) -> Appearance:
        """Computes Eq. 9: reads the appearance parameters at the locations.

        Args:
            features: from `appearance_features`, of B images.
            locations: K draws for each image, [B · K, ...], draws of the same image in
                a row; the slots of `active` are read.

        Returns:
            Parameters [B · K, M, L].
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

    # Generative model, Eq. 1.

    def sprites(self, z_app: Array, active: Array, train: bool = False) -> Array:
        """Computes f_sprite of Eq. 4 for the active slots.

        Args:
            z_app: [B, M, L].
            active: [B, M] bool.
            train: whether batch statistics are used and updated.

        Returns:
            [B, M, S, S, C] in [0, 1], zeros in inactive slots.
        """

        def decode(module, image, valid, z_app):
            del image
            return module.f_sprite(z_app, valid, train)

        capacity = self.capacity(z_app.shape[0])
        return slots.map_active(
            self, decode, active, (z_app,), capacity, self.axis_name
        )

    def canvas(self, sprites: Array, locations: Locations) -> Array:
        """Computes λ of Eq. 4, [B, H, W, C]."""
        height, width, _ = self.image_shape
        if locations.z_loc is None:
            return compositing.place(sprites, locations.site, height, width)
        maps = locations.z_loc.reshape(*locations.site.shape, height, width)
        return compositing.composite(sprites, maps)

    def log_likelihood(
        self, x: Array, canvas: Array, epsilon: Array | float | None = None
    ) -> Array:
        """Computes Eq. 12, log p(x | z), nats, [B]; `epsilon` is ε by default."""
        epsilon = self.epsilon if epsilon is None else epsilon
        return likelihood.log_likelihood(x, canvas, epsilon).sum(axis=(1, 2, 3))

    def log_p_n(self, n: Array) -> Array:
        """Computes Eq. 2, log p(n), nats, [B]."""
        return counts.log_p_n(n, self.prior_n_logits)

    def __call__(self, x: Array, train: bool = False) -> Array:
        """Reconstructs x [B, H, W, C] as one object at h_loc's maximum.

        This call uses every parameter, as `init` needs.
        """
        h_loc = self.location_logits(x, train)
        n = jnp.ones(x.shape[0], jnp.int32)
        locations = draw_locations(h_loc, n, self.max_objects, keys=None)
        appearance = self.appearance(self.appearance_features(x, train), locations)
        sprites = self.sprites(appearance.mu, locations.active, train)
        return self.canvas(sprites, locations)
