"""The catalog's schema, step by step; each step is frozen once it has been released."""
