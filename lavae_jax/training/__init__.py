"""Training: schedules, optimiser and the train step, as pure functions."""
