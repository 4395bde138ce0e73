"""The latent variables: how many, where, and what."""
