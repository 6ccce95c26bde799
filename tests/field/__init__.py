"""Situations from public reports, each rebuilt with environments and numbers of our own: docs/field.md lists them."""
