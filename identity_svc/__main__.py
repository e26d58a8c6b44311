"""`python -m identity_svc`."""

from identity_svc.main import main

main()
