"""Numbered migrations of the identity graph; `mesh.sqlite` applies them."""
