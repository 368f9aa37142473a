"""What takes how long, side by side: `make benchmark`. No tests: machines are shared, and only ratios last."""
