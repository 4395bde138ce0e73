"""The latent variables: how many (`counts`), where (`locations`), what
(`appearance`)."""
