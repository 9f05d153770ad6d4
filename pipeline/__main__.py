"""`python -m pipeline`."""

import sys

from pipeline import allocator
from pipeline.cli import main

_TRAINING = ("train", "tune", "run", "demo", "reproduce")

if sys.argv[1:] and sys.argv[1] in _TRAINING:
    allocator.restart_with_huge_pages()
sys.exit(main())
