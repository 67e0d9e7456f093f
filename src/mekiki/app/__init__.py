"""The page on one's own PC, and its JSON API."""
