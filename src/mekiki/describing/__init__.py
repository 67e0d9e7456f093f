"""Text descriptions of parts: vectors as soft tokens in the prompt of a language model."""
