"""Keras layers of the factorization-machine family, one public layer per file."""
