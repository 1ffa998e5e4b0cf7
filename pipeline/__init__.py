"""tokenmill: custom tokenizers and pretraining shards, exact and reproducible."""

__version__ = "0.1.0"
