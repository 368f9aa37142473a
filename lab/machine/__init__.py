"""The machine: files, processes and processors. Nothing here depends on diffusion.

files         atomic writing of files and folders, and verified reading of tensor files
file_kinds    recognises a failed download: a web page, a pointer, an archive
locks         one run at a time in a folder
interrupts    Ctrl-C that waits for the end of a step
devices       CPU, CUDA and MPS devices
precision     float32 or bfloat16 arithmetic, and compilation
threads       how many threads a CPU runs, and how long they spin
ranks         the processes that train one network together
batch_layers  BatchNorm and Dropout over the shares of several ranks
computation   the device, precision and compilation of a network
workers       who computes the tasks of a list, and how results and errors come back
processes     an engine of workers: processes of this machine
cluster       another: the workers of a Dask cluster
memory        how many images fit into memory at once
"""
