"""`python -m consent_svc`."""

from consent_svc.main import main

main()
