"""Measurements on a real API server. Each figure is printed with its control from the same run: machines are noisy."""
