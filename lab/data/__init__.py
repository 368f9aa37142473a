"""Images and what they show.

labels                class vocabularies, label sets, and the conditions made of them
labelled_images       images with their label sets, 8 bits on disk and floats in training
image_files           one image file as RGB pixels: upright, opaque, resized
image_folders         scene folders (i-CLEVR's form) and class folders, decoded once into a cache
torchvision_datasets  MNIST, FashionMNIST and CIFAR-10
datasets              the datasets by name, and their disjoint splits
"""
