"""Adding and removing noise. Nothing here depends on networks or guidance.

schedules            alpha(t) and sigma(t): linear, cosine, cyclic cosine, the tutorials' corruption
objectives           what a network predicts (noise, x_0 or v), the conversion to noise, and loss weights
noise_source         the noise of sampling, from one generator per image
denoising            the inputs of a sampler, and the grid of timesteps
samplers             ancestral DDPM, DDIM and DPM-Solver++(2M)
diffusers_samplers   diffusers' schedulers as samplers
"""
