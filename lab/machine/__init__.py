"""The machine: files, processes and processors. Nothing here knows of diffusion.

files       files that are whole or absent, and tensor files that are verified
locks       one run at a time in a folder
interrupts  Ctrl-C that waits for the end of a step
devices     CPU, CUDA and MPS devices
precision   float32 or bfloat16 arithmetic, and compilation
memory      how many images fit into memory at once
"""
