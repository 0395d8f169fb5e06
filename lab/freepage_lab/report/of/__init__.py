"""A module for each kind of document: what of it is shown, and how."""
