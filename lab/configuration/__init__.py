"""Settings of the generator, one file for each folder of the package. Importing them does not import torch.

checks        ranges, types, names, and whether two sets of settings are the same
kinds         settings with one class per choice, by the field `kind`
arguments     a command line as settings
data          the images, the label-set files and the splits
networks      the denoiser
diffusion     the noise schedule and the sampler
training      the optimizer, the loss and the EMA
distillation  the teacher of a student, and its guidance weights
guidance      the methods of guidance
sweep         the cells
pictures      the moments of sampling that a report shows
"""
