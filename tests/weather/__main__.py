"""`python -m tests.weather`: see `main`."""

from tests.weather.main import main

raise SystemExit(main())
