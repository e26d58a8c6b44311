"""`python -m tests.faults`: see `main`."""

from tests.faults.main import main

raise SystemExit(main())
