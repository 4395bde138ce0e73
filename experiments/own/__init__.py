"""Reads the user's own images, and fits a config to them."""
