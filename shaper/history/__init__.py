"""What runs have shown, kept from one to the next: observations, stage runs, models, per workflow and category.

`memory.py` is what a run holds, `store.py` the file or the server, `subject.py` what the knowledge is about. SQLAlchemy
is imported with the store only: without it nothing is remembered, and all else works.
"""
