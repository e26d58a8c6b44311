"""`python -m tests.soak`: see `main`."""

from tests.soak.main import main

raise SystemExit(main())
