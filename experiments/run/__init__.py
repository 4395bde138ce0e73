"""A training run: what it reads, computes, stores and reports."""
