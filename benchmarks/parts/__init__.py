"""Kinds of parts that photographs are generated of, one module each."""
