"""Rendered pictures that look like i-CLEVR's (extra [scenes]). No other room imports this one.

layout     the positions of the objects, and the held-out pairs of classes
floor      the floor and its light
studio     renders the pictures of one scene with Mitsuba
rendering  renders a folder of pictures in several processes
"""
