"""Training: schedules, optimiser and train steps, on one device or on several."""
