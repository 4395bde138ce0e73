"""Makes the paper's table and figures from trained models."""
