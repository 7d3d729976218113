"""Training and measuring image retrieval models on wrong and unbalanced labels."""

__version__ = "0.1.0"
