"""LAVAE: scenes as sets of objects, each with a location and an appearance.

Dittadi & Winther, "LAVAE: Disentangling Location and Appearance".
"""

from lavae_jax import editing
from lavae_jax.baseline import BaselineVAE
from lavae_jax.config import BaselineConfig, ModelConfig, build_model
from lavae_jax.inference import (
    generate,
    infer,
    log_likelihood_bound,
    log_weights,
    reconstruct,
    render,
    sprites,
)
from lavae_jax.model import LAVAE
from lavae_jax.pretrained import load, load_pretrained
from lavae_jax.types import Scene

__version__ = "0.1.0"

__all__ = [
    "LAVAE",
    "BaselineConfig",
    "BaselineVAE",
    "ModelConfig",
    "Scene",
    "build_model",
    "editing",
    "generate",
    "infer",
    "load",
    "load_pretrained",
    "log_likelihood_bound",
    "log_weights",
    "reconstruct",
    "render",
    "sprites",
]
