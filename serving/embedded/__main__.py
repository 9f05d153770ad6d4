"""`python -m serving.embedded`."""

from serving.embedded.command import main

raise SystemExit(main())
