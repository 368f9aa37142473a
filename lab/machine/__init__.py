"""The machine: files, processes and processors. Nothing here knows of diffusion.

files        files that are whole or absent, and tensor files that are verified
file_kinds   what a file is that should have been another: a web page, a pointer, an archive
locks        one run at a time in a folder
interrupts   Ctrl-C that waits for the end of a step
devices      CPU, CUDA and MPS devices
precision    float32 or bfloat16 arithmetic, and compilation
threads      how long a CPU's threads spin
computation  where and in which arithmetic a network is computed
memory       how many images fit into memory at once
"""
