"""What differs for NUS (Vine): frames, labels, and the files of its release."""
