"""Noise added and removed, without networks and without guidance.

schedules            alpha(t) and sigma(t): linear, cosine, cyclic cosine, the tutorials' corruption
objectives           what a network predicts (noise, x_0 or v), as a prediction of the noise; loss weights
noise_source         starting noise, each image's from a generator of its own
samplers             ancestral DDPM, DDIM and DPM-Solver++(2M), with the grid of timesteps
diffusers_samplers   diffusers' schedulers as samplers
"""
