"""The 1000-genome workflow: whom rare variants belong to, and how often people share those that may do harm."""
