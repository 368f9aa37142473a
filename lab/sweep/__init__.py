"""The sweep: every checkpoint with every label-set file, guidance method and weight.

cells  what a sweep cell is, and the file that holds its images
run    runs cells: samples, has the images judged, writes each cell once
"""
