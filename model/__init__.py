"""Networks: torch alone, no files, no argparse. layers.py has blocks that several use, network.py MMRA itself."""
