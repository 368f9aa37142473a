"""Unconditional experiments: a denoiser trained on images without labels, its losses and its samples.

configuration  everything that decides a run
presets        experiments with names
stages         training, sampling, report
"""
