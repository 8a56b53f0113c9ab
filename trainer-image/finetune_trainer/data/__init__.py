"""Tokenized examples as `prepare` leaves them and `train` reads them: storage and packing, nothing about text."""
