"""`python -m enrich_svc`."""

from enrich_svc.main import main

main()
