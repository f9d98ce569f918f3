"""Speculative, constrained and quantized decoding, each method in a file.

Its modules, in the order in which to read them: speculative, regex_derivatives, constrained,
quantization, fast_linear, completion.
"""
