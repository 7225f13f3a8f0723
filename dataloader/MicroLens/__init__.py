"""What differs for MicroLens: frames, label, and the files of its release."""
