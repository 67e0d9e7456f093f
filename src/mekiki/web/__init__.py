"""The web page and its JSON API, served on this machine."""
