"""Tokenized examples as `prepare` leaves them and `train` reads them: storage and packing.

Nothing here knows about text, templates or models.
"""
