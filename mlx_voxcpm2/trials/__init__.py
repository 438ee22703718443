"""Trials of custom kernels on this machine: which are right, and faster than the plain graph.

`prove` is called once a model is loaded. It asks the network which operations a patch has, takes
the verdicts of earlier loads from the cache, tries the others, and has those used that won.
"""
