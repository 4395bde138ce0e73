"""The same networks in plain form: what the benchmark compares the package with.

The same parameters give the same losses and gradients, in the form in which the
paper's equations stand: f_sprite decodes all M slots of every image, h_app is computed
at every site and then read at z_loc, and Eq. 4 is a convolution with one-hot maps. The
location network, the draws and `refinement` are the same in all forms.
"""

import dataclasses
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

from lavae_jax import LAVAE, compositing, networks
from lavae_jax.types import Array, Locations


class Form(NamedTuple):
    """A model that computes the same in another way."""

    name: str
    model: LAVAE


def forms(model: LAVAE, grouped: bool) -> tuple[Form, ...]:
    """The model as it is, then each time with one more part in plain form.

    Args:
      model: LAVAE, of which all forms take the variables.
      grouped: See `PlainLAVAE`.

    Returns:
      The forms; all parts of the last are plain.
    """
    # A buffer for as many objects as there are slots decodes every slot.
    every_slot = model.clone(objects_per_image=float(model.max_objects))
    fields = {
        field.name: getattr(every_slot, field.name)
        for field in dataclasses.fields(every_slot)
        if field.name not in ("parent", "name")
    }
    convolved = PlainLAVAE(**fields, grouped=grouped)
    plain = convolved.clone(appearance_net=MapAppearanceNet(model.appearance_net))
    return (
        Form("this package", model),
        Form("with all M slots decoded", every_slot),
        Form("and compositing by convolution", convolved),
        Form("and h_app at every site", plain),
    )


class PlainLAVAE(LAVAE):
    """LAVAE that composites by `lax.conv`, also where locations are hard.

    Attributes:
      grouped: One convolution with a group per image, which a CPU takes minutes for,
        instead of one convolution after the other.
    """

    grouped: bool = False

    def canvas(self, sprites: Array, locations: Locations) -> Array:
        """Eq. 4: λ, [B, H, W, C]."""
        maps = locations.z_loc
        if maps is None:
            maps = jax.nn.one_hot(locations.site, self.num_sites)
            maps = maps * locations.active[..., None]
        maps = maps.reshape(*locations.site.shape, *self.image_shape[:2])
        if self.grouped:
            return compositing.composite_conv(sprites, maps)

        def one_image(both):
            return compositing.composite_conv(*(a[None] for a in both))[0]

        return lax.map(one_image, (sprites, maps))


class MapAppearanceNet(nn.Module):
    """Another appearance network's parameters, its outputs computed at every site.

    For `GlimpseAppearanceNet` these are the windows around all D sites, cut out and
    multiplied with the first layer's weights: the 27×27 convolution that the network
    is, as a matrix product, which a CPU computes faster than `lax.conv`. The windows
    take 36 MB per image of 64×64×3.

    Attributes:
      net: The other network.
    """

    net: nn.Module

    def setup(self) -> None:
        """Takes the other network's parameters as they are named there."""
        nn.share_scope(self, self.net)

    def features(self, x: Array, train: bool) -> Array:
        """h_app: [B, H, W, C] to [B, D, 2L]."""
        if isinstance(self.net, networks.AppearanceNet):
            return self.net.feature_map(x, train)
        num_images, num_sites = x.shape[0], x.shape[1] * x.shape[2]
        image, site = jnp.divmod(jnp.arange(num_images * num_sites), num_sites)
        h_app = self.net.at_sites(x, image, site)
        return h_app.reshape(num_images, num_sites, -1)

    def read(self, features: Array, locations: Locations, capacity: int) -> Array:
        """Eq. 9 as it stands, Σ_d z_d h_app[d], or h_app at hard sites: [B, M, 2L]."""
        del capacity
        if locations.z_loc is None:
            return jnp.take_along_axis(features, locations.site[..., None], axis=1)
        return jnp.einsum("bmd,bdf->bmf", locations.z_loc, features)
