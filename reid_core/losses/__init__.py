"""One loss a file: ``(B, C)`` logits in, ``(B,)`` values out; the caller reduces, once."""
