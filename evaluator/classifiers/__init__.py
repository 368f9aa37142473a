"""Classifiers: the networks that judge, apart from the generator.

networks  small convolutional classifiers and ResNet-18
training  their training on a split of their own
weights   an evaluator's file, and the coursework's checkpoint.pth
pictures  pictures made by any program
"""
