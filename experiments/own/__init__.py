"""Images of one's own: reading them, and fitting a config to them."""
