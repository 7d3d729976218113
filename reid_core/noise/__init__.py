"""One label-noise model a file: labels in, ``NoisyLabels`` out; NumPy only, own seed."""
