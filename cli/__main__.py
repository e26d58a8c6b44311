"""`python -m cli`, the same as `clew`."""

from cli.main import main

main()
