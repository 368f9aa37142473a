"""Timings side by side: `make benchmark`. They are not tests: on shared machines, only ratios are comparable."""
