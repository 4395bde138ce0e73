"""The paper's table and figures, and what it claims, of trained models."""
