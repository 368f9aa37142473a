"""Classifiers: the networks that judge images, independent of the generator.

networks       small convolutional classifiers and ResNet-18
jitter         small random changes of the images that an evaluator is trained on
training       training on the evaluator's split
runs           a training that can be stopped and go on
weights        evaluator files: this lab's and the coursework's
coursework     the coursework's checkpoint.pth
pictures       folders of pictures from any program
picture_names  file names in these folders
"""
