"""Denoisers: networks that predict from x_t, the timestep and the condition.

context_unet    ContextUnet, the lab's own and the coursework's
distilled_unet  ContextUnet with w as an input, for students
blocks          its parts: convolutions, modulation, attention
group_norm      GroupNorm, in the memory format that is faster for few channels
class_words     the words of the classes, which their embeddings are sums of
basic_unet      BasicUNet, the tutorials' first network
diffusers_unet  diffusers' UNet2DModel, with and without the condition
registry        the networks by name
"""
