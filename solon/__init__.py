"""A laboratory for aligning language models. Read the modules in the order of tests/test_layers.py."""

__version__ = "0.1.0"
