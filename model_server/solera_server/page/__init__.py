"""The page of a served model: what it is, a form that tries it, and how it does."""
