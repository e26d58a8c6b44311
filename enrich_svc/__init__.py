"""What else is known? Derives context from what events carry."""
