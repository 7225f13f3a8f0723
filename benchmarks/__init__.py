"""Speed and memory against a limit or a rival measured in the same run. May import everything but command lines."""
