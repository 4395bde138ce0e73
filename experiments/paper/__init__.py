"""Makes the paper's table and figures, and checks its claims, of trained models."""
