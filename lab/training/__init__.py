"""Training of a denoiser and its files.

recipe        what decides a training besides its images
distillation  the guided prediction of a checkpoint as a student's target
two_steps     two sampling steps of a checkpoint as one step of a student's
start         the weights that a new training starts from
trainer       training as a generator of steps
optimizers    the optimizers by name, and which weights each of them steps
ema           EMAs of the network, and how much of each stays at an update
power_ema     EMAs of any length, rebuilt after training
muon          Muon, an optimizer for matrices
checkpoints   a checkpoint's file
runs          a training in a folder: begun, stopped, resumed, finished
"""
