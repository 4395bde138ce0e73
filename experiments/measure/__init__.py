"""How good a model is: measuring it, and the report of what was measured."""
