"""Images from published sets, folders, arrays and generators."""
