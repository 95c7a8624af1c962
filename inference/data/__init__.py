"""What a site brings to learn from: photographs with masks, diseases and patients, in one form for every command."""


class DataError(ValueError):
    """Data, a recipe or weights that cannot be learnt from; the message says what is wrong and what to do."""
