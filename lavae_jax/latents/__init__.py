"""These modules hold the latent variables: how many, where, and what."""
